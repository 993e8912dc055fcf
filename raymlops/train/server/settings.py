"""What every process of a server is told about it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from raymlops.config import check_durations
from raymlops.train.checks import require_positive
from raymlops.train.server.optimizers import Optimizer
from raymlops.train.server.partition import Partition
from raymlops.train.server.sync import Sync, Synchronous

Durability = Literal["process", "node"]

PATIENCE_S = 30 * 60.0
"""How long a worker waits for an answer of a living shard, which may wait for other workers: as
long as torch lets one wait for the others."""


@dataclass(frozen=True, kw_only=True)
class ServerSettings:
    """How a server runs.

    Attributes:
        durability: "process" survives kill -9 of any one process; "node" also the loss of a
            machine, by a replica of each shard on another one; where none is left both are on one,
            which is warned of.
        num_slots: Pushes of a worker to one block that may be on their way at once.
        timeout_s: How long a worker waits for a shard that has died to come back.
        lease_s: How long a worker of another node is silent until it counts as dead.
    """

    durability: Durability = "process"
    num_slots: int = 2
    timeout_s: float = 60.0
    lease_s: float = 30.0

    def __post_init__(self) -> None:
        if self.durability not in get_args(Durability):
            raise ValueError(
                f"durability is {self.durability!r}, not one of {get_args(Durability)}"
            )
        if self.num_slots < 1:
            raise ValueError(f"num_slots is {self.num_slots}; a push needs one")
        check_durations(self, "timeout_s", "lease_s")


@dataclass(frozen=True, kw_only=True)
class ServerSpec:
    """A server: `name` is random and unlike any other's, `label` for people to know it by.

    `clip_norm` bounds the norm, over all shards, of the mean gradient of a round.
    """

    name: str
    label: str = "parameters"
    partition: Partition
    optimizer: Optimizer
    sync: Sync
    settings: ServerSettings
    clip_norm: float | None = None

    def __post_init__(self) -> None:
        if self.clip_norm is None:
            return
        require_positive("clip_norm", self.clip_norm, ", or None for none")
        if not isinstance(self.sync, Synchronous):
            raise ValueError(
                f"clip_norm is {self.clip_norm} and sync {self.sync}, under which each push is a "
                "step of its own: leave clip_norm out, and clip what is pushed"
            )

    def actor(self, part: str) -> str:
        """What Ray calls the actor that is this part of it."""
        return f"raymlops-{self.label}-{self.name}-{part}"
