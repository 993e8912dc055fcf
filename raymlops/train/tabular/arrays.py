"""The encoded rows of a table, as the training loop reads them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from raymlops.cluster.objects import share
from raymlops.data.loading import ArraySource
from raymlops.train.tabular.targets import Event, Target

if TYPE_CHECKING:
    import ray


@dataclass(frozen=True, kw_only=True)
class Arrays:
    """Encoded rows [rows, width] and their labels [rows], as `target` has them, to train on and to
    validate on."""

    train: NDArray[np.float32]
    train_labels: NDArray[Any]
    validation: NDArray[np.float32]
    validation_labels: NDArray[Any]
    target: Target = field(default_factory=Event)

    @property
    def width(self) -> int:
        return int(self.train.shape[1])

    def sources(self) -> tuple[ArraySource, ArraySource]:
        """What to train on, and what to validate on."""
        learned = self.target.learned
        return (
            ArraySource((self.train, learned(self.train_labels, self))),
            ArraySource((self.validation, learned(self.validation_labels, self))),
        )


def shared(arrays: Arrays) -> list[ray.ObjectRef[Arrays]]:
    """What `fetch` gets them by, wherever it is called; a list, or Ray would inline megabytes.

    Raises:
        ClusterError: the cluster has no room for them.
    """
    parts = (arrays.train, arrays.train_labels, arrays.validation, arrays.validation_labels)
    size_mib = sum(each.nbytes for each in parts) / 2**20
    num_rows = len(arrays.train) + len(arrays.validation)
    return [share(arrays, what=f"{num_rows:,} rows of {size_mib:,.0f} MiB with the workers")]


def fetch(arrays: list[ray.ObjectRef[Arrays]]) -> tuple[ArraySource, ArraySource]:
    """The sources of arrays in Ray's object store."""
    import ray

    found: Arrays = ray.get(arrays[0])
    return found.sources()
