"""The encoded rows of a table, as the training loop reads them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from raymlops.data.loading import ArraySource

if TYPE_CHECKING:
    import ray


@dataclass(frozen=True, kw_only=True)
class Arrays:
    """Encoded rows [rows, width] and their labels [rows], to train on and to validate on.

    Labels are 0/1 as float32, or of `num_classes` the number of one as int64.
    """

    train: NDArray[np.float32]
    train_labels: NDArray[Any]
    validation: NDArray[np.float32]
    validation_labels: NDArray[Any]
    num_classes: int = 0

    @property
    def width(self) -> int:
        return int(self.train.shape[1])

    def sources(self) -> tuple[ArraySource, ArraySource]:
        """What to train on, and what to validate on."""
        return (
            ArraySource((self.train, self.train_labels)),
            ArraySource((self.validation, self.validation_labels)),
        )


def fetch(arrays: list[ray.ObjectRef[Arrays]]) -> tuple[ArraySource, ArraySource]:
    """The sources of arrays in Ray's object store; in a list, or Ray would inline megabytes."""
    import ray

    found: Arrays = ray.get(arrays[0])
    return found.sources()
