from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from typing import Any

import numpy as np
import pytest

from raymlops.data import Columns, num_rows
from raymlops.errors import ModelError, RequestError
from raymlops.serve.batcher import Batcher, BatchPolicy, Outputs, batch_length, close_after_s

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


def run(test: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(asyncio.wait_for(test(), 20.0))


async def busy(engine: Engine) -> None:
    """Returns when the engine has begun a batch."""
    await asyncio.to_thread(engine.started.acquire)


async def settle() -> None:
    """Lets every task that can run do so."""
    for _ in range(10):
        await asyncio.sleep(0)


@pytest.mark.parametrize(
    ("size", "age_s", "wanted"), [(1, 0.0, 0.5), (1, 0.25, 0.25), (1, 1.0, 0.0), (8, 0.0, 0.0)]
)
def test_a_batch_waits_until_it_is_full_or_old(size: int, age_s: float, wanted: float) -> None:
    assert close_after_s(BatchPolicy(max_rows=8, max_wait_s=0.5), size, age_s) == wanted


def test_a_lone_request_never_waits_by_default() -> None:
    assert close_after_s(BatchPolicy(), 1, 0.0) == 0.0


@pytest.mark.parametrize(
    ("sizes", "wanted"), [((3, 3, 3), 2), ((8, 1), 1), ((9, 1), 1), ((1,), 1), ((4, 4, 1), 2)]
)
def test_a_batch_takes_requests_whole_and_in_order(sizes: tuple[int, ...], wanted: int) -> None:
    assert batch_length(BatchPolicy(max_rows=8), sizes) == wanted


def test_every_caller_is_answered_not_only_the_one_that_fills_the_batch() -> None:
    async def test() -> None:
        batcher = Batcher(Engine(), BatchPolicy(max_rows=4))
        answers = await asyncio.gather(*(batcher.submit(rows(i)) for i in range(11)))
        assert [answer["y"].tolist() for answer in answers] == [[i + 1.0] for i in range(11)]

    run(test)


def test_requests_that_arrive_while_the_engine_works_form_its_next_batch() -> None:
    async def test() -> None:
        engine = Engine(is_open=False)
        batcher = Batcher(engine, BatchPolicy(max_rows=4))
        calls = [asyncio.create_task(batcher.submit(rows(0)))]
        await busy(engine)
        calls += [asyncio.create_task(batcher.submit(rows(i))) for i in range(1, 7)]
        await settle()
        assert engine.batches == [[0.0]]
        engine.gate.set()
        await asyncio.gather(*calls)
        assert engine.batches == [[0.0], [1.0, 2.0, 3.0, 4.0], [5.0, 6.0]]

    run(test)


def test_a_free_engine_waits_for_a_fuller_batch_when_told_to() -> None:
    async def test() -> None:
        engine = Engine()
        batcher = Batcher(engine, BatchPolicy(max_rows=3, max_wait_s=60.0))
        await asyncio.gather(*(batcher.submit(rows(i)) for i in range(3)))
        assert engine.batches == [[0.0, 1.0, 2.0]]

    run(test)


def test_a_client_that_disconnects_does_not_wedge_the_batcher() -> None:
    async def test() -> None:
        engine = Engine(is_open=False)
        batcher = Batcher(engine, BatchPolicy(max_rows=1, max_queue_rows=3))
        running = asyncio.create_task(batcher.submit(rows(0)))
        await busy(engine)
        queued = [asyncio.create_task(batcher.submit(rows(i))) for i in (1, 2, 3)]
        await settle()
        for gone in (running, queued[0], queued[1]):
            gone.cancel()
        await settle()
        late = [asyncio.create_task(batcher.submit(rows(i))) for i in (4, 5)]  # their room is free
        engine.gate.set()
        answers = await asyncio.gather(queued[2], *late)
        assert [answer["y"].tolist() for answer in answers] == [[4.0], [5.0], [6.0]]
        assert engine.batches == [[0.0], [3.0], [4.0], [5.0]]

    run(test)


def test_an_engine_error_answers_everybody_and_only_the_culprit_fails() -> None:
    async def test() -> None:
        engine = Engine(is_open=False)
        batcher = Batcher(engine, BatchPolicy())
        first = asyncio.create_task(batcher.submit(rows(0)))
        await busy(engine)
        calls = [asyncio.create_task(batcher.submit(rows(x))) for x in (1.0, POISON, 2.0)]
        await settle()
        engine.gate.set()
        await first
        good, poison, other = await asyncio.gather(*calls, return_exceptions=True)
        assert good["y"].tolist() == [2.0]
        assert isinstance(poison, ZeroDivisionError)
        assert other["y"].tolist() == [3.0]
        assert (await batcher.submit(rows(7)))["y"].tolist() == [8.0]

    run(test)


def test_an_engine_that_loses_rows_answers_nobody_wrongly() -> None:
    async def test() -> None:
        batcher = Batcher(lambda columns: {"y": columns["x"][1:]}, BatchPolicy())
        with pytest.raises(ModelError, match="output 'y' has 2 rows for 3 rows"):
            await batcher.submit(rows(1, 2, 3))

    run(test)


def test_rows_come_back_to_the_caller_they_came_from() -> None:
    async def test() -> None:
        rng = np.random.default_rng(7)
        engine = Engine()
        batcher = Batcher(engine, BatchPolicy(max_rows=64, max_queue_rows=100_000))

        async def call(caller: int) -> None:
            for turn in range(10):
                x = rng.random(int(rng.integers(1, 40))) + caller * 1000 + turn
                answer = await batcher.submit({"x": x})
                np.testing.assert_array_equal(answer["y"], x + 1)

        await asyncio.gather(*(call(caller) for caller in range(100)))
        assert len(engine.batches) < 1000

    run(test)


def test_a_caller_that_breaks_as_it_is_told_takes_no_mate_with_it(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def test() -> None:
        batcher = Batcher(Engine(), BatchPolicy())

        def broken(_: Outputs | Exception) -> None:
            raise ZeroDivisionError

        batcher.enqueue(rows(1), broken)
        assert (await batcher.submit(rows(2)))["y"].tolist() == [3.0]

    run(test)
    assert "could not be told" in caplog.text


def test_a_full_queue_refuses_and_recovers() -> None:
    async def test() -> None:
        engine = Engine(is_open=False)
        batcher = Batcher(engine, BatchPolicy(max_rows=2, max_queue_rows=3))
        calls = [asyncio.create_task(batcher.submit(rows(0)))]
        await busy(engine)
        calls.append(asyncio.create_task(batcher.submit(rows(1, 2))))
        await settle()
        with pytest.raises(RequestError, match="2 rows wait already") as full:
            await batcher.submit(rows(3, 4))
        assert full.value.status == 503
        with pytest.raises(RequestError, match="the request has 4 rows") as never:
            await batcher.submit(rows(1, 2, 3, 4))
        assert never.value.status == 413
        engine.gate.set()
        await asyncio.gather(*calls)
        assert num_rows(await batcher.submit(rows(3, 4))) == 2

    run(test)


def test_closing_answers_what_is_queued_and_refuses_the_rest() -> None:
    async def test() -> None:
        engine = Engine(is_open=False)
        batcher = Batcher(engine, BatchPolicy(max_rows=2, max_wait_s=60.0))
        calls = [asyncio.create_task(batcher.submit(rows(i))) for i in range(5)]
        await busy(engine)
        closing = asyncio.create_task(batcher.close())
        await settle()
        with pytest.raises(RequestError, match="being unloaded"):
            await batcher.submit(rows(9))
        engine.gate.set()
        await closing
        assert [call.result()["y"].tolist() for call in calls] == [[i + 1.0] for i in range(5)]

    run(test)
