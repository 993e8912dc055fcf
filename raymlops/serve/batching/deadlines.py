"""Whoever is late is answered: one timer for the deadlines of all requests, at the earliest."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Iterable

from raymlops.errors import RequestError
from raymlops.serve.batching.queue import Waiting


class Deadlines:
    """Calls `tell` with a 504 for each of the `unanswered` requests whose deadline has passed.

    It has a timer for `next_at`, by `time.monotonic`, and belongs to the event loop it is asked on.
    """

    def __init__(
        self,
        unanswered: Callable[[], Iterable[Waiting]],
        tell: Callable[[Waiting, RequestError], None],
    ) -> None:
        self._unanswered = unanswered
        self._tell = tell
        self._timer: asyncio.TimerHandle | None = None
        self.next_at = math.inf

    def watch(self, deadline: float, now: float) -> None:
        """Wakes up at `deadline`, which is before `next_at`."""
        self.close()
        self.next_at = deadline
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(deadline - now, self.answer_late)

    def answer_late(self) -> None:
        """Answers whoever is late, and watches for the next who may be."""
        now, self.next_at = time.monotonic(), math.inf
        for request in [each for each in self._unanswered() if each.deadline <= now]:
            if not request.answered:
                self._tell(request, _too_late(request, now))
        left = min((each.deadline for each in self._unanswered()), default=math.inf)
        if left < self.next_at:  # else somebody has asked again who was just answered
            self.watch(left, now)

    def close(self) -> None:
        """Wakes up no more, until there is somebody to watch."""
        if self._timer is not None:
            self._timer.cancel()


def _too_late(request: Waiting, now: float) -> RequestError:
    where = "in the engine, which has not answered" if request.is_running else "in the queue"
    return RequestError(504, f"the deadline passed after {now - request.since:.3f} s {where}")
