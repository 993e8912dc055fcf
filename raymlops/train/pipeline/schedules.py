"""The seven schedules by name: which stages a rank holds, and what each asks of a batch.

one stage a rank     0 1 2 3                gpipe, 1f1b
loops                0 1 2 3 | 4 5 6 7      stage s on rank s mod 4
V                    0 1 2 3 | 7 6 5 4      the last stage is beside the first
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import count
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """One order of a pipeline's work. `class_name` is its name in torch.distributed.pipelining.

    One that `splits_backward` computes gradients of inputs before those of weights, outside of
    autograd's hooks; one that `mixes_backward` does so for some microbatches alone. `fits` tells
    for (microbatches, ranks, stages) whether it can run, and `needs` says the same in words.
    """

    name: str
    class_name: str
    placement: Literal["loop", "v"]
    stages_per_rank: tuple[int, int | None]  # the fewest and the most
    splits_backward: bool
    mixes_backward: bool = False
    needs: str
    fits: Callable[[int, int, int], bool]


def _any(num_microbatches: int, num_ranks: int, num_stages: int) -> bool:
    return True


def _fills(num_microbatches: int, num_ranks: int, num_stages: int) -> bool:
    return num_microbatches >= num_stages


def _equal_rounds(num_microbatches: int, num_ranks: int, num_stages: int) -> bool:
    return num_microbatches % max(1, num_microbatches // num_ranks) == 0


_FILLS = "at least as many microbatches as stages"
_EQUAL_ROUNDS = "microbatches that divide into (microbatches // ranks) equal rounds"

SCHEDULES = {
    schedule.name: schedule
    for schedule in (
        Schedule(
            name="gpipe",
            class_name="GPipe",
            placement="loop",
            stages_per_rank=(1, 1),
            splits_backward=False,
            needs="any number of microbatches",
            fits=_any,
        ),
        Schedule(
            name="1f1b",
            class_name="1F1B",
            placement="loop",
            stages_per_rank=(1, 1),
            splits_backward=False,
            needs=_FILLS,
            fits=_fills,
        ),
        Schedule(
            name="interleaved_1f1b",
            class_name="Interleaved1F1B",
            placement="loop",
            stages_per_rank=(2, None),
            splits_backward=False,
            needs=_EQUAL_ROUNDS,
            fits=_equal_rounds,
        ),
        Schedule(
            name="looped_bfs",
            class_name="LoopedBFS",
            placement="loop",
            stages_per_rank=(2, None),
            splits_backward=False,
            needs="any number of microbatches",
            fits=_any,
        ),
        Schedule(
            name="interleaved_zero_bubble",
            class_name="InterleavedZeroBubble",
            placement="loop",
            stages_per_rank=(2, None),
            splits_backward=True,
            needs=_EQUAL_ROUNDS,
            fits=_equal_rounds,
        ),
        Schedule(
            name="zbv_zero_bubble",
            class_name="ZBVZeroBubble",
            placement="v",
            stages_per_rank=(2, 2),
            splits_backward=True,
            needs="any number of microbatches",
            fits=_any,
        ),
        Schedule(
            name="dualpipe_v",
            class_name="DualPipeV",
            placement="v",
            stages_per_rank=(2, 2),
            splits_backward=True,
            mixes_backward=True,
            needs=_FILLS,
            fits=_fills,
        ),
    )
}


def find_schedule(name: str) -> Schedule:
    """The schedule of that name.

    Raises:
        ValueError: there is none.
    """
    if name not in SCHEDULES:
        raise ValueError(f"there is no schedule '{name}'; choose from {', '.join(SCHEDULES)}")
    return SCHEDULES[name]


@dataclass(frozen=True, kw_only=True)
class PipelineLayout:
    """A schedule over ranks: `stages_per_rank` stages on each of `num_ranks`.

    Raises:
        ValueError: the schedule cannot run so; says what it needs and the nearest that fits.
    """

    schedule: str
    num_ranks: int
    num_microbatches: int
    stages_per_rank: int

    def __post_init__(self) -> None:
        schedule = find_schedule(self.schedule)
        if self.num_ranks < 1 or self.num_microbatches < 1:
            raise ValueError(
                f"num_ranks is {self.num_ranks} and num_microbatches {self.num_microbatches}; "
                "both are at least 1"
            )
        fewest, most = schedule.stages_per_rank
        if self.stages_per_rank < fewest or (most is not None and self.stages_per_rank > most):
            nearest = fewest if self.stages_per_rank < fewest else most
            wanted = f"exactly {fewest}" if fewest == most else f"at least {fewest}"
            raise ValueError(
                f"schedule '{self.schedule}' holds {wanted} stages a rank, not "
                f"{self.stages_per_rank}; nearest: {nearest} a rank, which makes "
                f"{self.num_ranks * (nearest or 0)} stages on {self.num_ranks} ranks"
            )
        if not self._fits(self.num_microbatches):
            nearest_counts = " or ".join(map(str, self._nearest()))
            raise ValueError(
                f"schedule '{self.schedule}' needs {schedule.needs}; {self.num_microbatches} "
                f"microbatches do not fit {self.num_ranks} ranks with {self.num_stages} stages; "
                f"nearest: microbatches={nearest_counts}"
            )

    @classmethod
    def fewest_stages(
        cls, schedule: str, *, num_ranks: int, num_microbatches: int
    ) -> PipelineLayout:
        """The layout with as few stages a rank as the schedule takes."""
        fewest, _ = find_schedule(schedule).stages_per_rank
        return cls(
            schedule=schedule,
            num_ranks=num_ranks,
            num_microbatches=num_microbatches,
            stages_per_rank=fewest,
        )

    @property
    def num_stages(self) -> int:
        return self.num_ranks * self.stages_per_rank

    def rank_of(self, stage: int) -> int:
        """Where `stage` runs."""
        turn, place = divmod(stage, self.num_ranks)
        goes_back = find_schedule(self.schedule).placement == "v" and turn % 2 == 1
        return self.num_ranks - 1 - place if goes_back else place

    def stages_of(self, rank: int) -> tuple[int, ...]:
        """The stages that run on `rank`, in the order of the model."""
        return tuple(stage for stage in range(self.num_stages) if self.rank_of(stage) == rank)

    def _fits(self, num_microbatches: int) -> bool:
        fits = find_schedule(self.schedule).fits
        return fits(num_microbatches, self.num_ranks, self.num_stages)

    def _nearest(self) -> Iterable[int]:
        """The largest smaller and the smallest larger number of microbatches that fit."""
        below = [n for n in range(1, self.num_microbatches) if self._fits(n)]
        above = next(n for n in count(self.num_microbatches + 1) if self._fits(n))
        return (*below[-1:], above)
