"""What every rank did when, and what theory says it should have done.

GPipe, 2 ranks, 2 microbatches, backward as long as forward: a third is bubble
rank 0 |F0-F1-......B0=B1=|
rank 1 |...F0-F1-B0=B1=...|
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from statistics import median

from raymlops.train.pipeline.order import Action, Kind, Order

Durations = Callable[[Action], float]  # seconds


@dataclass(frozen=True, kw_only=True)
class Span:
    """One action on one rank; seconds since any moment common to all ranks."""

    rank: int
    action: Action
    start_s: float
    end_s: float


@dataclass(frozen=True, kw_only=True)
class Timeline:
    """The spans of one step, by rank and start; a rank does one thing at a time."""

    num_ranks: int
    spans: tuple[Span, ...]

    @classmethod
    def of(cls, num_ranks: int, spans: Iterable[Span]) -> Timeline:
        """The timeline that starts at 0 s with the first span."""
        spans = list(spans)
        origin_s = min((span.start_s for span in spans), default=0.0)
        moved = (
            Span(
                rank=span.rank,
                action=span.action,
                start_s=span.start_s - origin_s,
                end_s=span.end_s - origin_s,
            )
            for span in spans
        )
        return cls(
            num_ranks=num_ranks,
            spans=tuple(sorted(moved, key=lambda span: (span.rank, span.start_s))),
        )

    @property
    def makespan_s(self) -> float:
        """From the start of the first action to the end of the last, on whichever ranks."""
        return max((span.end_s for span in self.spans), default=0.0)

    def busy_s(self, rank: int) -> float:
        return sum(span.end_s - span.start_s for span in self.spans if span.rank == rank)

    @property
    def bubble_share(self) -> float:
        """The part of all ranks' time in which they wait; (S-1)/(M+S-1) for GPipe and 1F1B with S
        equal stages and M microbatches."""
        if not self.spans:
            return 0.0
        busy_s = sum(self.busy_s(rank) for rank in range(self.num_ranks))
        return 1.0 - busy_s / (self.num_ranks * self.makespan_s)

    def typical_durations(self) -> Durations:
        """The median seconds of each kind of action in each stage."""
        seen: dict[tuple[int, Kind], list[float]] = defaultdict(list)
        for span in self.spans:
            seen[span.action.stage, span.action.kind].append(span.end_s - span.start_s)
        typical = {key: median(values) for key, values in seen.items()}
        return lambda action: typical[action.stage, action.kind]


def equal_stages(
    *, forward_s: float = 1.0, backward_input_s: float = 1.0, backward_weight_s: float = 1.0
) -> Durations:
    """The same seconds in every stage; a whole backward takes the sum of its two parts."""
    seconds = {
        Kind.FORWARD: forward_s,
        Kind.BACKWARD: backward_input_s + backward_weight_s,
        Kind.BACKWARD_INPUT: backward_input_s,
        Kind.BACKWARD_WEIGHT: backward_weight_s,
    }
    return lambda action: seconds[action.kind]


def simulate(order: Order, durations: Durations) -> Timeline:
    """Every rank works through its actions in order, each as soon as what it needs is there.

    A forward needs that of the stage before; a backward its own forward and the gradient from the
    stage behind; gradients of weights those of inputs. Sending takes no time.

    Raises:
        ValueError: the order can never end; names the actions that wait for each other.
    """
    last_stage = max((action.stage for actions in order for action in actions), default=0)
    ends: dict[Action, float] = {}
    free_s = [0.0] * len(order)
    done = [0] * len(order)
    spans: list[Span] = []
    moved = True
    while moved:
        moved = False
        for rank, actions in enumerate(order):
            while done[rank] < len(actions):
                action = actions[done[rank]]
                ready_s = [_ready_s(needs, ends) for needs in _needs(action, last_stage)]
                if None in ready_s:
                    break
                start_s = max(free_s[rank], *(s for s in ready_s if s is not None), 0.0)
                free_s[rank] = ends[action] = start_s + durations(action)
                spans.append(Span(rank=rank, action=action, start_s=start_s, end_s=free_s[rank]))
                done[rank] += 1
                moved = True
    waiting = [str(actions[n]) for actions, n in zip(order, done, strict=True) if n < len(actions)]
    if waiting:
        raise ValueError(f"the order never ends: {', '.join(waiting)} wait for each other")
    return Timeline.of(len(order), spans)


def _needs(action: Action, last_stage: int) -> list[tuple[Action, ...]]:
    """What must have ended before `action` starts: one action of each tuple."""

    def at(stage: int, *kinds: Kind) -> tuple[Action, ...]:
        return tuple(Action(stage=stage, kind=kind, microbatch=action.microbatch) for kind in kinds)

    match action.kind:
        case Kind.FORWARD:
            return [at(action.stage - 1, Kind.FORWARD)] if action.stage > 0 else []
        case Kind.BACKWARD_WEIGHT:
            return [at(action.stage, Kind.BACKWARD_INPUT)]
        case _:
            own = [at(action.stage, Kind.FORWARD)]
            if action.stage == last_stage:
                return own
            return [*own, at(action.stage + 1, Kind.BACKWARD, Kind.BACKWARD_INPUT)]


def _ready_s(alternatives: tuple[Action, ...], ends: dict[Action, float]) -> float | None:
    return next((ends[action] for action in alternatives if action in ends), None)
