"""Records what this rank does when, and puts all ranks' records on one clock."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from statistics import median

import torch
import torch.distributed as dist

from raymlops.train.pipeline.costs import finish
from raymlops.train.pipeline.order import Action, Kind
from raymlops.train.pipeline.timeline import Span, Timeline

_CLOCK_ROUNDS = 9


@dataclass(kw_only=True)
class Recorder:
    """The spans of this rank's last step, by its own clock.

    An accelerator only takes orders while a step runs. With `waits` the recorder waits for the end
    of every action, which makes its spans true and the step slower; a CPU's are true anyway.
    """

    rank: int
    device: torch.device
    waits: bool = False

    def __post_init__(self) -> None:
        self.spans: list[Span] = []

    @contextmanager
    def action(self, kind: Kind, *, stage: int, microbatch: int) -> Iterator[None]:
        start_s = time.perf_counter()
        yield
        if self.waits:
            finish(self.device)
        self.spans.append(
            Span(
                rank=self.rank,
                action=Action(stage=stage, kind=kind, microbatch=microbatch),
                start_s=start_s,
                end_s=time.perf_counter(),
            )
        )

    @property
    def busy_s(self) -> float:
        return sum(span.end_s - span.start_s for span in self.spans)


def gather_timeline(spans: list[Span], group: dist.ProcessGroup) -> Timeline:
    """All ranks' spans as one timeline, on every rank; every rank of `group` calls it."""
    behind_s = _clock_offset_s(group)
    mine = [
        replace(span, start_s=span.start_s - behind_s, end_s=span.end_s - behind_s)
        for span in spans
    ]
    everyone: list[list[Span]] = [[] for _ in range(dist.get_world_size(group))]
    dist.all_gather_object(everyone, mine, group=group)
    return Timeline.of(len(everyone), (span for part in everyone for span in part))


def _clock_offset_s(group: dist.ProcessGroup) -> float:
    """How far this rank's clock is ahead of rank 0's, within the noise of leaving a barrier."""
    times_s = []
    for _ in range(_CLOCK_ROUNDS):
        dist.barrier(group)
        times_s.append(time.perf_counter())
    everyone: list[list[float]] = [[] for _ in range(dist.get_world_size(group))]
    dist.all_gather_object(everyone, times_s, group=group)
    return median(mine - first for mine, first in zip(times_s, everyone[0], strict=True))
