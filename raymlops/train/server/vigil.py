"""Who lives of those without a connection: by their process, or by what is heard of them."""

from __future__ import annotations

import os
import selectors
import time
from collections.abc import Callable
from functools import partial

import psutil

from raymlops.train.server.shard import Shard

_TICK_S = 1.0


class Vigil:
    """Has workers leave `shard`: those of this node, which were living before this process, once
    their process ends; those elsewhere when nothing was heard of them for the lease.

    `selector` is that of the shard's loop, whose events are to be called. `fall_silent` is told of
    a worker elsewhere before it leaves.
    """

    def __init__(
        self,
        shard: Shard,
        selector: selectors.BaseSelector,
        *,
        lease_s: float,
        fall_silent: Callable[[int], None],
    ) -> None:
        self._shard = shard
        self._selector = selector
        self._lease_s = lease_s
        self._fall_silent = fall_silent
        self._heard_s: dict[int, float] = {}
        self._watched: dict[int, int] = {}

    @property
    def patience_s(self) -> float | None:
        """How soon to `bury` again."""
        return _TICK_S if self._heard_s else None

    def hear(self, worker: int) -> None:
        """A worker of another node lives."""
        self._heard_s[worker] = time.monotonic()

    def watch(self, worker: int) -> None:
        """A worker that is counted among the living may have ended meanwhile."""
        pid, started = self._shard.roster.process(worker)
        if pid == 0:
            self.hear(worker)
            return
        try:
            descriptor = os.pidfd_open(pid)
        except ProcessLookupError:
            self._shard.leave(worker)
            return
        self._watched[worker] = descriptor
        self._selector.register(descriptor, selectors.EVENT_READ, partial(self._mourn, worker))
        if started_s(pid) != started:  # the number was given to another process since
            self._mourn(worker)

    def relieve(self, worker: int) -> None:
        """The worker has come, or has left: it is watched no more."""
        self._heard_s.pop(worker, None)
        descriptor = self._watched.pop(worker, None)
        if descriptor is not None:
            self._selector.unregister(descriptor)
            os.close(descriptor)

    def bury(self, now_s: float) -> None:
        """Has those leave of whom nothing was heard."""
        for worker in [each for each, at in self._heard_s.items() if now_s - at > self._lease_s]:
            del self._heard_s[worker]
            self._fall_silent(worker)
            self._shard.leave(worker)

    def _mourn(self, worker: int) -> None:
        self.relieve(worker)
        self._shard.leave(worker)


def started_s(pid: int) -> float:
    """When a process was started, to tell it from later ones of its number; 0 when it has ended."""
    try:
        return psutil.Process(pid).create_time()
    except psutil.NoSuchProcess:
        return 0.0
