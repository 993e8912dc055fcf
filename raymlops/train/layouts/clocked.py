"""How long FSDP2 talks, where the host waits for it.

    gather ▏▔▔▔▏ compute ...                     reduce ▏▔▔▔▔▏ average over copies ▏▔▔▔▏ hook

FSDP2 lets its messages be replaced, but for the average over copies of HSDP, which is followed by
a hook: it has taken the time since the message before. A GPU's messages only begin where they are
called, so that nothing would be measured there.
"""

from __future__ import annotations

import time
from typing import Any

import torch
import torch.distributed as dist
from torch.distributed.fsdp import FSDPModule
from torch.distributed.fsdp._fully_shard._fsdp_collectives import (
    DefaultAllGather,
    DefaultReduceScatter,
)


class Clock:
    """Counts the seconds that the messages of FSDP2 modules take in this worker."""

    def __init__(self) -> None:
        self._spent_s = 0.0
        self._mark_s = 0.0

    def watch(self, module: FSDPModule, *, averages: bool) -> None:
        """Counts the messages of `module`, without those of modules in it, which `averages` over
        copies or not."""
        module.set_custom_all_gather(_Gather(self))
        module.set_custom_reduce_scatter(_Reduce(self))
        if averages:
            module.set_all_reduce_hook(lambda _: self.count())

    def take(self) -> float:
        """The seconds since this was last asked."""
        spent_s, self._spent_s = self._spent_s, 0.0
        return spent_s

    def begin(self) -> None:
        self._mark_s = time.perf_counter()

    def count(self) -> None:
        """Counts the time since `begin`, or since it was last called."""
        now = time.perf_counter()
        self._spent_s += now - self._mark_s
        self._mark_s = now


class _Gather(DefaultAllGather):
    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    def __call__(self, *arguments: Any, **named: Any) -> dist.Work | None:
        self._clock.begin()
        work = super().__call__(*arguments, **named)
        self._clock.count()
        return work


class _Reduce(DefaultReduceScatter):
    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    def allocate(self, *arguments: Any, **named: Any) -> torch.Tensor:
        self._clock.begin()  # a shard axis of one worker reduces nothing, and averages at once
        return super().allocate(*arguments, **named)

    def __call__(self, *arguments: Any, **named: Any) -> dist.Work:
        self._clock.begin()
        work = super().__call__(*arguments, **named)
        self._clock.count()
        return work
