"""A request knows where its time went, whoever it shared a batch with."""

from __future__ import annotations

import asyncio
import time

import numpy as np
import pytest

from raymlops.data import Columns
from raymlops.serve.batching import Batcher, BatchPolicy, BatchSizes, Outputs, Times

ENGINE_S = 0.02


def slow(columns: Columns) -> Outputs:
    time.sleep(ENGINE_S)  # an engine that takes its time
    return {"y": columns["x"]}


def test_queue_batch_and_engine_add_up_to_the_whole() -> None:
    async def test() -> tuple[list[Times], float, BatchSizes]:
        batcher = Batcher(slow, BatchPolicy())
        loop = asyncio.get_running_loop()
        all_times, answered = [Times() for _ in range(4)], []
        done: asyncio.Future[None] = loop.create_future()
        began = time.monotonic()

        def note(_: object) -> None:
            answered.append(time.monotonic() - began)
            if len(answered) == len(all_times):
                done.set_result(None)

        batcher.enqueue({"x": np.arange(3.0)}, note, times=all_times[0])
        await asyncio.sleep(ENGINE_S / 4)  # the first batch has begun
        for times in all_times[1:]:
            batcher.enqueue({"x": np.arange(2.0)}, note, times=times)
        await done
        await batcher.close()
        return all_times, max(answered), batcher.sizes

    (first, *rest), whole_s, sizes = asyncio.run(test())
    for times in (first, *rest):
        assert times.engine_s >= ENGINE_S
        assert times.batch_s >= 0
        assert times.queue_s + times.batch_s + times.engine_s <= whole_s
    assert first.queue_s < ENGINE_S / 2
    assert all(times.queue_s > 0.4 * ENGINE_S for times in rest)  # they waited for the first
    assert len({times.engine_s for times in rest}) == 1  # one batch
    assert (sizes.num_rows, sum(sizes.buckets)) == (9, 2)


def test_a_request_that_never_ran_has_no_times() -> None:
    async def test() -> Times:
        batcher, times = Batcher(slow, BatchPolicy()), Times()
        batcher.enqueue({"x": np.arange(3.0)}, lambda _: None, times=times)()
        await batcher.close()
        return times

    times = asyncio.run(test())
    assert (times.queue_s, times.batch_s, times.engine_s) == pytest.approx((-1, -1, -1))
