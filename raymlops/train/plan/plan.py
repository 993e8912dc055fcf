"""How a training is laid out over workers: a size for each axis.

    axis       what its workers do                                       gradients
    data       hold whole copies, share each batch                       averaged
    shard      hold a slice each of every parameter, share each batch    averaged (FSDP2)
    tensor     hold a slice each of a layer, work on the same rows       their own
    pipeline   hold some of the layers, pass activations on              their own

The rank of a worker counts tensor fastest, then shard, data, pipeline: workers that talk most are
neighbours. data=2, shard=2, tensor=2 gives

    rank     0  1  2  3  4  5  6  7
    data     0  0  0  0  1  1  1  1
    shard    0  0  1  1  0  0  1  1
    tensor   0  1  0  1  0  1  0  1

With a server, the workers of the data axis send their gradients to processes beside them, which
hold the parameters and step them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

from raymlops.config.configured import nearest
from raymlops.train.checks import require_types
from raymlops.train.pipeline.schedules import PipelineLayout, find_schedule

Axis: TypeAlias = Literal["pipeline", "data", "shard", "tensor"]
Groups: TypeAlias = tuple[tuple[int, ...], ...]
SyncName: TypeAlias = Literal["synchronous", "asynchronous", "stale"]

AXES: tuple[Axis, ...] = ("pipeline", "data", "shard", "tensor")
SHARING_ROWS: tuple[Axis, ...] = ("data", "shard")
_WORDS = ("schedule", "sync")


@dataclass(frozen=True, kw_only=True)
class ParallelPlan:
    """The size of each axis; 1 leaves it out. `schedule` and `microbatches` are the pipeline's.

    ParallelPlan(data=2, tensor=2) and ParallelPlan.parse("data=2,tensor=2") are the same four
    workers. data > 1 with shard > 1 is HSDP: copies of sharded models.

    `server` is the number of processes of a parameter server, 0 for none. `sync` says how far the
    workers may run apart: "synchronous" takes one step on the mean of all gradients, "asynchronous"
    one on each gradient as it comes, "stale" too, but lets nobody get more than `staleness` steps
    ahead of the slowest.

    Raises:
        ValueError: a size below 1, an unknown schedule or sync, or a setting without its axis.
    """

    data: int = 1
    shard: int = 1
    tensor: int = 1
    pipeline: int = 1
    schedule: str = "1f1b"
    microbatches: int = 1
    server: int = 0
    sync: SyncName = "synchronous"
    staleness: int = 0

    def __post_init__(self) -> None:
        require_types(self)
        for axis, size in self.sizes.items():
            if size < 1:
                raise ValueError(f"{axis} is {size}; a plan has at least one worker on each axis")
        if self.microbatches < 1:
            raise ValueError(f"microbatches is {self.microbatches}; a batch has at least one")
        if self.pipeline == 1 and self.microbatches > 1:
            raise ValueError(
                f"microbatches is {self.microbatches} without a pipeline: set pipeline above 1, or "
                "cut batches by the spec's accumulation"
            )
        find_schedule(self.schedule)
        self._check_server()

    @classmethod
    def parse(cls, text: str) -> ParallelPlan:
        """The plan written "data=2,tensor=2"; the inverse of `str`.

        Raises:
            ValueError: an unknown or repeated name, or no number behind it.
        """
        values: dict[str, int | str] = {}
        for part in filter(None, (part.strip() for part in text.split(","))):
            name, _, value = (piece.strip() for piece in part.partition("="))
            if name not in cls.__dataclass_fields__:
                near = nearest(name, cls.__dataclass_fields__)
                known = ", ".join(cls.__dataclass_fields__)
                raise ValueError(f"'{part}' in plan '{text}' is none of {known}{near}")
            if name in values:
                raise ValueError(f"plan '{text}' says {name} twice")
            if name not in _WORDS and not value.isdecimal():
                raise ValueError(f"'{part}' in plan '{text}': {name} is a whole number")
            values[name] = value if name in _WORDS else int(value)
        return cls(**values)  # type: ignore[arg-type]  # each name has its field's type

    def __str__(self) -> str:
        return ",".join(f"{name}={value}" for name, value in self.to_dict().items()) or "data=1"

    def to_dict(self) -> dict[str, int | str]:
        """What differs from one process, by name."""
        told: dict[str, int | str] = {name: n for name, n in self.sizes.items() if n > 1}
        if self.pipeline > 1:
            told |= {"schedule": self.schedule, "microbatches": self.microbatches}
        if self.server:
            told |= {"server": self.server, "sync": self.sync}
        if self.sync == "stale":
            told["staleness"] = self.staleness
        return told

    @property
    def sizes(self) -> Mapping[Axis, int]:
        """How many workers lie along each axis."""
        return {
            "data": self.data,
            "shard": self.shard,
            "tensor": self.tensor,
            "pipeline": self.pipeline,
        }

    @property
    def num_workers(self) -> int:
        """All of them: the product of the sizes."""
        return math.prod(self.sizes.values())

    @property
    def num_replicas(self) -> int:
        """Among how many workers the rows of a batch are divided."""
        return self.data * self.shard

    def pipeline_layout(self, *, num_stages: int | None = None) -> PipelineLayout:
        """The schedule over the pipeline's ranks, with as few stages as it takes, or so many.

        Raises:
            ValueError: the schedule cannot run so; says what it needs and the nearest that fits.
        """
        fewest, _ = find_schedule(self.schedule).stages_per_rank
        if num_stages is not None and num_stages % self.pipeline:
            raise ValueError(
                f"{num_stages} stages cannot be shared out evenly to {self.pipeline} ranks of the "
                f"pipeline; nearest: {fewest * self.pipeline} stages"
            )
        return PipelineLayout(
            schedule=self.schedule,
            num_ranks=self.pipeline,
            num_microbatches=self.microbatches,
            stages_per_rank=fewest if num_stages is None else num_stages // self.pipeline,
        )

    def resized(self, num_workers: int) -> ParallelPlan:
        """This plan for another number of workers: more or fewer of them share each batch.

        Copies come and go; shards that would not come out even become one copy.

        Raises:
            ValueError: the plan has axes other than data and shard, whose sizes are the model's.
        """
        if num_workers == self.num_workers:
            return self
        fixed = [axis for axis in AXES if axis not in SHARING_ROWS and self.sizes[axis] > 1]
        if fixed:
            raise ValueError(
                f"plan {self} cannot have {num_workers} workers instead of {self.num_workers}: its "
                f"{' and '.join(fixed)} axis is cut to the model; only data and shard can shrink"
            )
        if num_workers % self.shard:
            return replace(self, data=1, shard=num_workers)
        return replace(self, data=num_workers // self.shard)

    def coordinates(self, rank: int) -> dict[Axis, int]:
        """Where a worker stands on each axis."""
        if not 0 <= rank < self.num_workers:
            raise ValueError(f"rank {rank} is none of the {self.num_workers} workers of {self}")
        found: dict[Axis, int] = {}
        for axis in reversed(AXES):
            rank, found[axis] = divmod(rank, self.sizes[axis])
        return found

    def replica(self, rank: int) -> int:
        """Which share of each batch a worker reads."""
        at = self.coordinates(rank)
        return at["data"] * self.shard + at["shard"]

    def groups(self, *axes: Axis) -> Groups:
        """The ranks that differ on these axes alone: what one collective over them joins."""
        together: dict[tuple[int, ...], list[int]] = {}
        for rank in range(self.num_workers):
            at = self.coordinates(rank)
            fixed = tuple(at[axis] for axis in AXES if axis not in axes)
            together.setdefault(fixed, []).append(rank)
        return checked(tuple(tuple(ranks) for ranks in together.values()), self.num_workers)

    def _check_server(self) -> None:
        if self.server < 0 or self.staleness < 0:
            raise ValueError(
                f"server is {self.server} and staleness {self.staleness}; neither is negative"
            )
        if self.sync != "synchronous" and not self.server:
            raise ValueError(f"sync is {self.sync} without a server: set server to 1 or more")
        if self.staleness and self.sync != "stale":
            raise ValueError(
                f"staleness is {self.staleness} and sync {self.sync}: set sync to stale, or "
                "staleness to 0"
            )


def checked(groups: Groups, num_workers: int) -> Groups:
    """The same groups, if every worker is in one and in no other.

    Raises:
        ValueError: names the ranks that are in two groups, in none, or unknown.
    """
    ranks = [rank for group in groups for rank in group]
    if sorted(ranks) != list(range(num_workers)):
        twice = sorted({rank for rank in ranks if ranks.count(rank) > 1})
        absent = sorted(set(range(num_workers)) - set(ranks))
        unknown = sorted(set(ranks) - set(range(num_workers)))
        raise ValueError(
            f"groups {groups} do not part {num_workers} workers: "
            f"twice {twice}, absent {absent}, unknown {unknown}"
        )
    return groups
