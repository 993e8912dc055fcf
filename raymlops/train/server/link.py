"""A worker's line to one shard."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from raymlops.train.server.payload import Payload
from raymlops.train.server.rows import Rows


class Link(Protocol):
    """Pushes are numbered, kept until they are acknowledged, and sent again after a loss.

    A link serves one thread.
    """

    def push(self, block: int, gradient: NDArray[Any] | Rows | Payload, *, slot: int) -> None:
        """Sends a gradient on its way; it stays unchanged in `slot` until `wait_room` says so.

        What a payload stands for lies in the slot.
        """
        ...

    def wait_room(self, block: int, *, in_flight: int) -> None:
        """Returns once at most `in_flight` pushes to the block are not acknowledged."""
        ...

    def ask(self, block: int, keys: NDArray[np.int64] | None = None) -> None:
        """Asks for the newest version of the block that the mode allows, or for some rows of it."""
        ...

    def read(self, block: int, out: NDArray[Any]) -> int:
        """Waits for what was asked for, copies it, and returns its version."""
        ...

    def measure(self, sequence: int) -> None:
        """Asks how large the mean of the round of push `sequence`, to each block, is."""
        ...

    def measured(self) -> tuple[int, float]:
        """Waits for what was measured: version and value of a Measured."""
        ...

    def weigh(self, version: int, norm: float) -> None:
        """Tells the norm, over all shards, of the mean that makes `version`."""
        ...

    def take(self, block: int) -> tuple[int, Sequence[NDArray[Any]]]:
        """The newest version of the block: its number, parameters and states of the optimizer,
        which nobody may be changing."""
        ...

    def close(self) -> None: ...
