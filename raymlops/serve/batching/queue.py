"""Requests that wait for an engine: by priority and age, each batch of one shape."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator

import msgspec

from raymlops.data import Columns
from raymlops.serve.batching.outputs import Outputs
from raymlops.serve.batching.policy import BatchPolicy
from raymlops.serve.batching.times import Times

Done = Callable[[Outputs | Exception], None]
"""What is called once with a request's outputs, or with what kept it from having any."""

_MANY = 64


class Waiting(msgspec.Struct, eq=False):
    """A request in the queue or in a running batch; `answered` also when nobody wants it."""

    columns: Columns
    num_rows: int
    since: float
    deadline: float
    done: Done
    priority: int = 0
    length: int = 0
    """Rows of different lengths cannot be in one batch."""
    times: Times | None = None
    closed_at: float = 0.0
    """When its batch was closed; 0 while it waits for one."""
    answered: bool = False

    @property
    def is_running(self) -> bool:
        return self.closed_at > 0.0


_Lane = deque[Waiting]


class WaitingQueue:
    """First come, first served, but that priority counts as having come earlier.

    Each priority and length has a lane of its own, in order of arrival; a batch is taken from the
    lanes of one length. What was answered meanwhile, since its deadline passed or its client has
    gone, stays in its lane until it comes up, or until most of the lane is like that.
    """

    def __init__(self, policy: BatchPolicy) -> None:
        self._policy = policy
        self._lanes: dict[tuple[int, int], _Lane] = {}
        self._num_dropped = 0
        self.num_rows = 0

    def __len__(self) -> int:
        return sum(map(len, self._lanes.values())) - self._num_dropped

    def __iter__(self) -> Iterator[Waiting]:
        for lane in self._lanes.values():
            for request in lane:
                if not request.answered:
                    yield request

    def add(self, request: Waiting) -> None:
        key = (request.priority, request.length)
        lane = self._lanes.get(key)
        if lane is None:
            lane = self._lanes[key] = deque()
        lane.append(request)
        self.num_rows += request.num_rows

    def drop(self, request: Waiting) -> None:
        """Forgets a request of this queue that was just marked as answered."""
        self.num_rows -= request.num_rows
        self._num_dropped += 1
        if self._num_dropped > _MANY and self._num_dropped > len(self):
            self._sweep()

    def front(self) -> tuple[Waiting, int] | None:
        """The request whose turn it is, and how many rows could run with it; None when empty."""
        lanes = self._next_lanes()
        if not lanes:
            return None
        if len(self._lanes) == 1:
            return lanes[0][0], self.num_rows
        alike = (request for lane in lanes for request in lane if not request.answered)
        return lanes[0][0], sum(request.num_rows for request in alike)

    def take(self, now: float) -> list[Waiting]:
        """The next batch, closed `now`; empty when nothing waits.

        It ends before the first request that does not fit, so that a large one is not starved.
        """
        lanes, num_rows = self._next_lanes(), 0
        max_rows = self._policy.full_at(lanes[0][0].length) if lanes else 0
        if len(self._lanes) == 1 and self.num_rows <= max_rows and not self._num_dropped:
            return self._take_all(lanes[0], now)
        batch: list[Waiting] = []
        while lanes:
            lane = lanes[0]
            request = lane[0]
            num_rows += request.num_rows
            if batch and num_rows > max_rows:
                break
            batch.append(lane.popleft())
            request.closed_at = now
            self.num_rows -= request.num_rows
            if lane and not lane[0].answered and len(lanes) == 1:
                continue
            self._trim(lane)
            lanes = self._ordered([lane for lane in lanes if lane])
        return batch

    def _take_all(self, lane: _Lane, now: float) -> list[Waiting]:
        batch = list(lane)
        lane.clear()
        self.num_rows = 0
        for request in batch:
            request.closed_at = now
        return batch

    def _next_lanes(self) -> list[_Lane]:
        """The lanes of the length whose turn it is, the next request at the head of the first;
        lanes that are empty are forgotten."""
        for key in [key for key, lane in self._lanes.items() if not self._trim(lane)]:
            del self._lanes[key]
        lanes = self._ordered(list(self._lanes.values()))
        return [lane for lane in lanes if lane[0].length == lanes[0][0].length]

    def _ordered(self, lanes: list[_Lane]) -> list[_Lane]:
        if len(lanes) < 2:
            return lanes
        step_s = self._policy.priority_step_s
        return sorted(lanes, key=lambda lane: lane[0].since - lane[0].priority * step_s)

    def _trim(self, lane: _Lane) -> bool:
        """Whether anything waits in the lane, whose head then is not answered."""
        while lane and lane[0].answered:
            lane.popleft()
            self._num_dropped -= 1
        return bool(lane)

    def _sweep(self) -> None:
        for key, lane in self._lanes.items():
            self._lanes[key] = deque(each for each in lane if not each.answered)
        self._num_dropped = 0
