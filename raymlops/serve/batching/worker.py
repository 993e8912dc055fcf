"""A thread that runs one batch after the other."""

from __future__ import annotations

import logging
import threading
import time
from asyncio import AbstractEventLoop
from collections.abc import Callable, Sequence
from queue import SimpleQueue
from typing import NamedTuple, TypeVarTuple

from raymlops.data import num_rows
from raymlops.serve.batching.bisection import isolate
from raymlops.serve.batching.outputs import Run, check_num_rows, concatenated
from raymlops.serve.batching.queue import Waiting
from raymlops.serve.batching.shares import Batch

_logger = logging.getLogger(__name__)

Ts = TypeVarTuple("Ts")


class Ran(NamedTuple):
    """A part of a batch with its outputs, and how long the engine took for them."""

    batch: Batch
    engine_s: float


Answer = Callable[[Sequence[Waiting], Ran | Exception], None]
"""What is told of a part of a batch that has been run."""


def answer_all(run: Run, batch: Sequence[Waiting], answer: Answer) -> None:
    """Runs a batch, and answers every request of it; those that make it fail do so alone."""

    def run_part(part: Sequence[Waiting]) -> Ran:
        columns = concatenated([request.columns for request in part])
        began = time.monotonic()
        outputs = run(columns)
        engine_s = time.monotonic() - began
        check_num_rows(outputs, num_rows(columns))
        return Ran(Batch(columns, outputs), engine_s)

    for part, result in isolate(run_part, batch):
        answer(part, result)


class Worker:
    """Calls `answer` and then `finished` in `loop` for each batch it was given.

    The thread is a daemon: an engine that hangs for ever does not keep the process from ending.
    """

    def __init__(
        self,
        run: Run,
        *,
        loop: AbstractEventLoop,
        answer: Answer,
        finished: Callable[[Worker], None],
        prepare: Callable[[], None],
    ) -> None:
        self._run = run
        self._loop = loop
        self._answer = answer
        self._finished = finished
        self._prepare = prepare
        self._inbox: SimpleQueue[list[Waiting] | None] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self.batch: list[Waiting] = []
        self.started_at = 0.0

    def start(self, batch: list[Waiting], now: float) -> None:
        self.batch, self.started_at = batch, now
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="engine", daemon=True)
            self._thread.start()
        self._inbox.put(batch)

    def end(self) -> None:
        """The thread ends with the batch it is at."""
        self._inbox.put(None)

    def _work(self) -> None:
        self._prepare()
        while (batch := self._inbox.get()) is not None:
            answer_all(self._run, batch, self._tell)
            self._in_loop(self._finished, self)

    def _tell(self, part: Sequence[Waiting], result: Ran | Exception) -> None:
        self._in_loop(self._answer, part, result)

    def _in_loop(self, call: Callable[[*Ts], None], *args: *Ts) -> None:
        try:
            self._loop.call_soon_threadsafe(call, *args)
        except RuntimeError:
            _logger.info("an engine came to its end after the event loop: nobody waits for it")
