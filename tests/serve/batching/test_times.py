"""A request knows where its time went, whoever it shared a batch with."""

from __future__ import annotations

import asyncio
import threading
import time

import numpy as np
import pytest

from raymlops.data import Columns
from raymlops.serve.batching import Batcher, BatchPolicy, BatchSizes, Outputs, Times

ENGINE_S = 0.02


class Engine:
    """Takes its time; the first batch is held until others wait behind it."""

    def __init__(self) -> None:
        self.has_begun = threading.Event()
        self.others_wait = threading.Event()

    def __call__(self, columns: Columns) -> Outputs:
        self.has_begun.set()
        assert self.others_wait.wait(30.0)
        time.sleep(ENGINE_S)
        return {"y": columns["x"]}


def test_queue_batch_and_engine_add_up_to_the_whole() -> None:
    engine = Engine()
    all_times = [Times() for _ in range(4)]
    answered: list[float] = []

    async def test() -> tuple[float, BatchSizes]:
        batcher = Batcher(engine, BatchPolicy())
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def note(_: object) -> None:
            answered.append(time.monotonic() - began)
            if len(answered) == len(all_times):
                done.set_result(None)

        batcher.enqueue({"x": np.arange(3.0)}, note, times=all_times[0])
        await asyncio.to_thread(engine.has_begun.wait, 30.0)
        behind_since = time.monotonic()
        for times in all_times[1:]:
            batcher.enqueue({"x": np.arange(2.0)}, note, times=times)
        engine.others_wait.set()
        await done
        await batcher.close()
        return behind_since - began, batcher.sizes

    began = time.monotonic()
    alone_s, sizes = asyncio.run(test())
    first, *rest = all_times
    for times in all_times:
        assert times.engine_s >= ENGINE_S
        assert times.batch_s >= 0
        assert times.queue_s + times.batch_s + times.engine_s <= max(answered)
    assert 0 <= first.queue_s <= alone_s
    assert all(times.queue_s >= ENGINE_S for times in rest)  # they waited for the first
    assert len({times.engine_s for times in rest}) == 1  # one batch
    assert (sizes.num_rows, sum(sizes.buckets)) == (9, 2)


def test_a_request_that_never_ran_has_no_times() -> None:
    async def test() -> Times:
        batcher, times = Batcher(lambda columns: {"y": columns["x"]}, BatchPolicy()), Times()
        batcher.enqueue({"x": np.arange(3.0)}, lambda _: None, times=times)()
        await batcher.close()
        return times

    times = asyncio.run(test())
    assert (times.queue_s, times.batch_s, times.engine_s) == pytest.approx((-1, -1, -1))
