"""A late-binding batcher: requests that arrive while the engine works form its next batch.

    engine   |---- a ----|---- b c d ----|-- e --|
    arrivals a  b  c   d        e

A batch is closed when an engine is free to run it, never before, so that a lone request waits
for nobody and a busy engine always finds the largest batch there is.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import chain

from raymlops.data import Columns, num_rows
from raymlops.errors import RequestError
from raymlops.serve.batching.deadlines import Deadlines
from raymlops.serve.batching.outputs import Outputs, Run
from raymlops.serve.batching.padding import length_of, pad_request
from raymlops.serve.batching.policy import Arrivals, BatchPolicy, close_after_s
from raymlops.serve.batching.queue import Done, Waiting, WaitingQueue
from raymlops.serve.batching.shares import Share
from raymlops.serve.batching.speed import EngineSpeed
from raymlops.serve.batching.times import BatchSizes, Times
from raymlops.serve.batching.worker import Ran, Worker, answer_all

_logger = logging.getLogger(__name__)

# Timers of event loops tick in milliseconds. A shorter wait looks again at each turn of the loop.
_SHORTEST_TIMER_S = 0.001


class Batcher:
    """Runs batches in `num_instances` threads, or in the event loop where that is faster.

    Belongs to the event loop of its first request. Nothing is made for a request but its place in
    the queue: no task, no future, no timer.

    Args:
        free: columns whose rows may be of another length in every request; without
            `policy.lengths`, requests of one length share a batch.
        speed: what the warm-up showed; without it, every batch is run in a thread.
        prepare: called first in each engine's thread, with its number.
    """

    def __init__(
        self,
        run: Run,
        policy: BatchPolicy,
        *,
        free: tuple[str, ...] = (),
        num_instances: int = 1,
        speed: EngineSpeed | None = None,
        prepare: Callable[[int], None] | None = None,
    ) -> None:
        self._run = run
        self._policy = policy
        self._free = free
        self._num_instances = num_instances
        self._prepare = prepare
        self.speed = speed or EngineSpeed()
        self.sizes = BatchSizes()
        self._queue = WaitingQueue(policy)
        self._arrivals = Arrivals(policy.max_wait_s)
        self._num_unanswered = 0
        self._workers: list[Worker] = []
        self._idle: list[Worker] = []
        self._loop: asyncio.AbstractEventLoop | None = None
        self._is_due = False
        self._timer: asyncio.TimerHandle | None = None
        self._deadlines = Deadlines(self._unanswered, self._tell)
        self._looked_at = -math.inf
        self._closed = False
        self._drained: asyncio.Future[None] | None = None

    @property
    def num_waiting_rows(self) -> int:
        return self._queue.num_rows

    @property
    def num_unanswered(self) -> int:
        """Requests that wait or run."""
        return self._num_unanswered

    async def submit(
        self, columns: Columns, *, timeout_s: float | None = None, priority: int = 0
    ) -> Outputs:
        """The engine's outputs for these rows, in their order.

        Raises what `enqueue` does, and what the engine did.
        """
        answer: asyncio.Future[Outputs] = asyncio.get_running_loop().create_future()

        def done(result: Outputs | Exception) -> None:
            if answer.cancelled():
                return
            if isinstance(result, Exception):
                answer.set_exception(result)
            else:
                answer.set_result(result)

        forget = self.enqueue(columns, done, timeout_s=timeout_s, priority=priority)
        try:
            return await answer
        finally:
            if answer.cancelled():
                forget()

    def enqueue(
        self,
        columns: Columns,
        done: Done,
        *,
        timeout_s: float | None = None,
        priority: int = 0,
        times: Times | None = None,
    ) -> Callable[[], None]:
        """Puts the rows in the queue; returns how to take them out again, should nobody wait.

        `done` is called from the event loop, later, with the outputs in the rows' order, with
        what the engine raised, or with a 504 when `deadline` has passed.

        Args:
            timeout_s: at most `policy.timeout_s`, which is the default.
            times: is filled in as the request proceeds.

        Raises:
            RequestError: 503 when the queue is full or closed, 413 when it could never hold this,
                or a row is longer than all `policy.lengths`.
            ModelError: `policy.pad_columns` names what is no column of several positions.
        """
        now = time.monotonic()
        size, length = num_rows(columns), 0
        if self._policy.lengths:
            columns, done, length = pad_request(columns, done, self._policy)
        elif self._free:
            length = length_of({name: columns[name] for name in self._free})
        if self._closed or self._queue.num_rows + size > self._policy.max_queue_rows:
            raise self._refusal(size)
        limit_s = self._policy.timeout_s
        deadline = now + (limit_s if timeout_s is None else min(timeout_s, limit_s))
        request = Waiting(columns, size, now, deadline, done, priority, length, times=times)
        self._arrivals.note(now, alone=self._num_unanswered == 0)
        self._num_unanswered += 1
        self._queue.add(request)
        if self._loop is None:
            self._bind(asyncio.get_running_loop())
        if deadline < self._deadlines.next_at:
            self._deadlines.watch(deadline, now)
        if self._idle:
            self._dispatch_soon()
        return partial(self._forget, request)

    async def close(self) -> None:
        """Refuses new requests, and returns when all others are answered."""
        self._closed = True
        if self._num_unanswered:
            self._drained = self._drained or asyncio.get_running_loop().create_future()
            self._dispatch_soon()
            await asyncio.shield(self._drained)
        if self._timer is not None:
            self._timer.cancel()
        self._deadlines.close()
        for worker in self._workers:
            worker.end()
        self._workers, self._idle = [], []

    def check_health(self) -> None:
        """Raises RuntimeError when a batch has been running for too long."""
        now = time.monotonic()
        for worker in self._workers:
            if worker.batch and now - worker.started_at > self._policy.hang_after_s:
                raise RuntimeError(
                    f"a batch of {len(worker.batch)} requests has been running for "
                    f"{now - worker.started_at:.1f} s, more than hang_after_s, "
                    f"{self._policy.hang_after_s:g}"
                )

    def _bind(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._workers = [
            Worker(
                self._run,
                loop=loop,
                answer=self._answer,
                finished=self._finished,
                prepare=partial(self._prepare, number) if self._prepare else _nothing,
            )
            for number in range(self._num_instances)
        ]
        self._idle = list(self._workers)

    def _refusal(self, size: int) -> RequestError:
        limit, waiting = self._policy.max_queue_rows, self._queue.num_rows
        if self._closed:
            return RequestError(503, "the version is being unloaded; try again")
        if size > limit:
            return RequestError(413, f"the request has {size} rows, at most {limit} are taken")
        rate = self.speed.rows_per_s
        room_in_s = None if rate is None else waiting / (rate * self._num_instances)
        return RequestError(503, f"{waiting} rows wait already; try again later", room_in_s)

    def _forget(self, request: Waiting) -> None:
        """Drops a request whose client has gone; one that is running already goes unanswered."""
        if not request.answered:
            self._settle(request)

    def _settle(self, request: Waiting) -> None:
        request.answered = True
        request.done = _not_again  # or it would live on in a cycle, as a request knows its batch
        self._num_unanswered -= 1
        if not request.closed_at:
            self._queue.drop(request)
        if self._drained is not None and not self._num_unanswered and not self._drained.done():
            self._drained.set_result(None)

    def _tell(self, request: Waiting, result: Outputs | Exception) -> None:
        done = request.done
        if request.times is not None and request.closed_at:
            request.times.queue_s = request.closed_at - request.since
        self._settle(request)
        try:
            done(result)
        except Exception:  # its mates in the batch are not to wait for ever
            _logger.exception("a request could not be told what became of it")

    def _dispatch_soon(self) -> None:
        """At the next turn of the loop, so that all that came in this one share a batch."""
        if not self._is_due and self._loop is not None:
            self._is_due = True
            self._loop.call_soon(self._dispatch)

    def _dispatch(self) -> None:
        """Gives free engines what waits, unless more is worth waiting for."""
        self._is_due = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        now = time.monotonic()
        if now >= self._deadlines.next_at:  # its timer is late; nothing runs after its deadline
            self._deadlines.answer_late()
        while self._idle and (front := self._queue.front()) is not None:
            wait_s = self._wait_s(*front, now)
            if wait_s > 0.0:
                self._dispatch_in(wait_s)
                return
            if self._start(self._queue.take(now), now):
                self._dispatch_soon()
                return

    def _wait_s(self, head: Waiting, num_rows: int, now: float) -> float:
        if self._closed:
            return 0.0
        # What came since the last time may have company in sockets that were not read again yet,
        # however long this loop was busy with other things.
        latest, looked_at = self._arrivals.latest, self._looked_at
        self._looked_at = now
        return close_after_s(
            self._policy,
            num_rows,
            now - head.since,
            gap_s=self._arrivals.gap_s,
            quiet_s=now - latest if latest < looked_at else 0.0,
            engine_s=self.speed.expected_s(num_rows),
            length=head.length,
        )

    def _dispatch_in(self, wait_s: float) -> None:
        if wait_s < _SHORTEST_TIMER_S:
            self._dispatch_soon()
        elif self._loop is not None:
            self._timer = self._loop.call_later(wait_s, self._dispatch)

    def _start(self, batch: list[Waiting], now: float) -> bool:
        """Whether the batch is answered already: then it is the sockets' turn."""
        worker = self._idle.pop()
        num_rows = sum([request.num_rows for request in batch])
        self.sizes.note(num_rows)
        expected_s = self.speed.expected_s(num_rows)
        if expected_s is None or expected_s > self._policy.inline_below_s:
            worker.start(batch, now)
            return False
        answer_all(self._run, batch, self._answer)
        self.speed.note(num_rows, time.monotonic() - now)
        self._idle.append(worker)
        return True

    def _finished(self, worker: Worker) -> None:
        num_rows = sum([request.num_rows for request in worker.batch])
        self.speed.note(num_rows, time.monotonic() - worker.started_at)
        worker.batch = []
        self._idle.append(worker)
        self._dispatch_soon()

    def _answer(self, part: Sequence[Waiting], result: Ran | Exception) -> None:
        if isinstance(result, Exception):
            for request in part:
                if not request.answered:
                    self._tell(request, result)
            return
        batch, engine_s = result
        batch_s = max(0.0, time.monotonic() - part[0].closed_at - engine_s)
        start = 0
        for request in part:
            end = start + request.num_rows
            if not request.answered:
                if (times := request.times) is not None:
                    times.batch_s, times.engine_s = batch_s, engine_s
                self._tell(request, Share(batch, start, end))
            start = end

    def _unanswered(self) -> Iterator[Waiting]:
        """What waits or runs."""
        running = chain.from_iterable(worker.batch for worker in self._workers)
        return (each for each in (*self._queue, *running) if not each.answered)


def _nothing() -> None:
    pass


def _not_again(_: Outputs | Exception) -> None:
    """In place of what was called."""
