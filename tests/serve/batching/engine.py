"""An engine that works when a test lets it, and batchers that are closed behind it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from typing import Any

import numpy as np

from raymlops.data import Columns
from raymlops.serve.batching import Batcher, Outputs

POISON = -1.0


def rows(*values: float) -> Columns:
    return {"x": np.array(values)}


class Engine:
    """Answers x + 1; stops at a gate, so that a test decides when it is free."""

    def __init__(self, *, is_open: bool = True) -> None:
        self.gate = threading.Event()
        self.batches: list[list[float]] = []
        self.started = threading.Semaphore(0)
        if is_open:
            self.gate.set()

    def __call__(self, columns: Columns) -> Outputs:
        self.batches.append(columns["x"].tolist())
        self.started.release()
        assert self.gate.wait(10.0)
        if POISON in columns["x"]:
            raise ZeroDivisionError("poison")
        return {"y": columns["x"] + 1}


_made: list[Batcher] = []


def make(*args: Any, **kwargs: Any) -> Batcher:
    """A batcher that `run` closes, and so ends its threads."""
    _made.append(Batcher(*args, **kwargs))
    return _made[-1]


def run(test: Callable[[], Coroutine[Any, Any, None]]) -> None:
    async def test_and_close() -> None:
        await asyncio.wait_for(test(), 20.0)
        while _made:
            await _made.pop().close()

    asyncio.run(test_and_close())


async def busy(engine: Engine) -> None:
    """Returns when the engine has begun a batch."""
    await asyncio.to_thread(engine.started.acquire)


async def settle() -> None:
    """Lets every task that can run do so."""
    for _ in range(10):
        await asyncio.sleep(0)
