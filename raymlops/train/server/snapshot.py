"""What a server hands over to another one, or to a checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from raymlops.train.server.optimizers import Optimizer
from raymlops.train.server.partition import Array, Partition


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """Everything a server holds after `version` updates: dense parameters and tables by name, and
    each state of the optimizer under the same names, in the order of its `step`.

    Without `states` they begin as 0.
    """

    parameters: Mapping[str, Array]
    states: tuple[Mapping[str, Array], ...] = ()
    version: int = 0

    @classmethod
    def of(cls, parameters: Mapping[str, ArrayLike]) -> Self:
        """A beginning."""
        return cls(parameters={name: np.asarray(values) for name, values in parameters.items()})

    def require_states(self, optimizer: Optimizer) -> None:
        """Raises ValueError unless the states are those of such an optimizer."""
        if self.states and len(self.states) != optimizer.num_states:
            raise ValueError(
                f"the snapshot has {len(self.states)} states a parameter, "
                f"{type(optimizer).__name__} keeps {optimizer.num_states}; start the optimizer it "
                "was taken of, or leave the states out"
            )

    def part_of(self, partition: Partition, shard: int) -> list[list[NDArray[Any]]]:
        """What of it lies on `shard`: of the parameters, then of each state, those of all
        blocks."""
        return [partition.values_of(shard, kind) for kind in (self.parameters, *self.states)]
