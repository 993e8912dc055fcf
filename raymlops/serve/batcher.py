"""A late-binding batcher: requests that arrive while the engine works form its next batch.

    engine   |---- a ----|---- b c d ----|-- e --|
    arrivals a  b  c   d        e

A batch is closed when the engine is free to run it, never before, so that a lone request waits
for nobody and a busy engine always finds the largest batch there is.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import accumulate, takewhile
from typing import Any

import numpy as np
from numpy.typing import NDArray

from raymlops.data import Column, Columns, num_rows, take
from raymlops.errors import ModelError, RequestError

_logger = logging.getLogger(__name__)

Outputs = dict[str, NDArray[Any]]
Engine = Callable[[Columns], Outputs]


@dataclass(frozen=True, kw_only=True)
class BatchPolicy:
    """How many rows run at once, and how many may wait for that.

    `max_wait_s` above 0 lets a free engine wait for a fuller batch. A request is never split: one
    of more than `max_rows` rows runs alone.
    """

    max_rows: int = 1024
    max_wait_s: float = 0.0
    max_queue_rows: int = 65536

    def __post_init__(self) -> None:
        if self.max_rows < 1:
            raise ValueError(f"max_rows is {self.max_rows}, at least 1 is needed")
        if self.max_wait_s < 0:
            raise ValueError(f"max_wait_s is {self.max_wait_s}, a time cannot be negative")
        if self.max_queue_rows < self.max_rows:
            raise ValueError(
                f"max_queue_rows is {self.max_queue_rows}, less than max_rows, {self.max_rows}: "
                "no batch could ever be full"
            )


def close_after_s(policy: BatchPolicy, size: int, age_s: float) -> float:
    """Seconds until a free engine must run a batch of `size` rows, `age_s` old; 0 means now."""
    return 0.0 if size >= policy.max_rows else max(0.0, policy.max_wait_s - age_s)


def batch_length(policy: BatchPolicy, sizes: Iterable[int]) -> int:
    """How many of the waiting requests, of `sizes` rows each, make up the next batch."""
    fitting = takewhile(lambda rows: rows <= policy.max_rows, accumulate(sizes))
    return max(1, sum(1 for _ in fitting))


Done = Callable[[Outputs | Exception], None]
"""What is called once with a request's outputs, or with what kept it from having any."""


@dataclass(frozen=True, slots=True, eq=False)
class _Waiting:
    columns: Columns
    size: int
    since: float
    done: Done


class Batcher:
    """Runs `engine` in one thread, on one batch after the other; belongs to one event loop.

    There is no task while nothing waits: the first request starts one, which ends with the queue.
    """

    def __init__(self, engine: Engine, policy: BatchPolicy) -> None:
        self._engine = engine
        self._policy = policy
        self._queue: deque[_Waiting] = deque()
        self._queued_rows = 0
        self._arrived = asyncio.Event()
        self._working: asyncio.Task[None] | None = None
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="engine")
        self._closed = False

    async def submit(self, columns: Columns) -> Outputs:
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

        forget = self.enqueue(columns, done)
        try:
            return await answer
        finally:
            if answer.cancelled():
                forget()

    def enqueue(self, columns: Columns, done: Done) -> Callable[[], None]:
        """Puts the rows in the queue; returns how to take them out again, should nobody wait.

        `done` is called from the event loop, later, with the outputs in the rows' order or with
        what the engine raised.

        Raises:
            RequestError: 503 when the queue is full or closed, 413 when it could never hold this.
        """
        size, limit = num_rows(columns), self._policy.max_queue_rows
        if self._closed:
            raise RequestError(503, "the version is being unloaded; try again")
        if size > limit:
            raise RequestError(413, f"the request has {size} rows, at most {limit} are taken")
        if self._queued_rows + size > limit:
            raise RequestError(503, f"{self._queued_rows} rows wait already; try again later")
        request = _Waiting(columns, size, time.monotonic(), done)
        self._queue.append(request)
        self._queued_rows += size
        self._arrived.set()
        if self._working is None:
            self._working = asyncio.get_running_loop().create_task(self._work())
        return partial(self._forget, request)

    async def close(self) -> None:
        """Refuses new requests, and returns when those in the queue are answered."""
        self._closed = True
        self._arrived.set()
        if self._working is not None:
            await asyncio.shield(self._working)
        self._thread.shutdown(wait=False)

    def _forget(self, request: _Waiting) -> None:
        """Drops a request whose caller has gone, unless its batch is running already."""
        if request in self._queue:
            self._queue.remove(request)
            self._queued_rows -= request.size

    async def _work(self) -> None:
        try:
            while self._queue:
                await self._fill()
                if batch := self._next_batch():
                    await self._answer(batch)
        finally:
            self._working = None

    async def _fill(self) -> None:
        """Returns when the next batch is due."""
        while self._queue and not self._closed:
            age_s = time.monotonic() - self._queue[0].since
            wait_s = close_after_s(self._policy, self._queued_rows, age_s)
            if wait_s == 0.0:
                return
            self._arrived.clear()
            try:
                await asyncio.wait_for(self._arrived.wait(), wait_s)
            except TimeoutError:
                return

    def _next_batch(self) -> list[_Waiting]:
        if not self._queue:
            return []
        length = batch_length(self._policy, (request.size for request in self._queue))
        batch = [self._queue.popleft() for _ in range(length)]
        self._queued_rows -= sum(request.size for request in batch)
        return batch

    async def _answer(self, batch: list[_Waiting]) -> None:
        try:
            outputs = await self._run(_concatenate([request.columns for request in batch]))
        except Exception as error:  # whatever the engine raised belongs to those who wait for it
            await self._answer_failure(batch, error)
            return
        start = 0
        for request in batch:
            end = start + request.size
            _tell(request, take(outputs, slice(start, end)))
            start = end

    async def _answer_failure(self, batch: list[_Waiting], error: Exception) -> None:
        """Fails a lone request; of several each runs alone, so that only the culprit fails."""
        if len(batch) > 1:
            _logger.warning("a batch of %d requests failed; each runs alone: %r", len(batch), error)
            for request in batch:
                await self._answer([request])
        else:
            _tell(batch[0], error)

    async def _run(self, columns: Columns) -> Outputs:
        loop = asyncio.get_running_loop()
        outputs = await loop.run_in_executor(self._thread, self._engine, columns)
        wanted = num_rows(columns)
        for name, values in outputs.items():
            if len(values) != wanted:
                raise ModelError(f"output '{name}' has {len(values)} rows for {wanted} rows")
        return outputs


def _tell(request: _Waiting, result: Outputs | Exception) -> None:
    try:
        request.done(result)
    except Exception:  # its mates in the batch are not to wait for ever
        _logger.exception("a request could not be told what became of it")


def _concatenate(parts: list[Columns]) -> Columns:
    if len(parts) == 1:
        return parts[0]
    names: Mapping[str, Column] = parts[0]
    return {name: np.concatenate([part[name] for part in parts]) for name in names}
