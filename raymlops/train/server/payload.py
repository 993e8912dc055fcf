"""A gradient in fewer bytes, on its way to a shard of another node."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from raymlops.train.compression import Compressor


@dataclass(frozen=True, kw_only=True)
class Part:
    """Elements `start` to `stop` of a shard's range, as `compressor` of the payload has them."""

    start: int
    stop: int
    data: bytes


@dataclass(frozen=True, kw_only=True)
class Payload:
    """A shard's range of `size` elements; what no part holds is zero."""

    compressor: Compressor
    size: int
    parts: tuple[Part, ...]

    @property
    def size_bytes(self) -> int:
        return sum(len(part.data) for part in self.parts)

    def gradient(self) -> NDArray[np.float32]:
        """The range that it stands for, the same wherever it is unpacked.

        Raises:
            ValueError: a part is none of the compressor's.
        """
        from raymlops.train.compression import decode

        found = np.zeros(self.size, np.float32)
        for part in self.parts:
            length = part.stop - part.start
            found[part.start : part.stop] = decode(self.compressor, part.data, (length,))
        return found
