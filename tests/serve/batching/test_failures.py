"""Engines that fail, die or hang, and requests that make them."""

from __future__ import annotations

import asyncio

import pytest

from raymlops.data import Columns
from raymlops.errors import EngineError, ModelError, RequestError
from raymlops.serve.batching import BatchPolicy, Outputs
from tests.serve.batching.engine import POISON, Engine, busy, make, rows, run, settle


def test_an_engine_error_answers_everybody_and_only_the_culprit_fails() -> None:
    async def test() -> None:
        engine = Engine(is_open=False)
        batcher = make(engine, BatchPolicy())
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
        batcher = make(lambda columns: {"y": columns["x"][1:]}, BatchPolicy())
        with pytest.raises(ModelError, match="output 'y' has 2 rows for 3 rows"):
            await batcher.submit(rows(1, 2, 3))

    run(test)


def test_a_caller_that_breaks_as_it_is_told_takes_no_mate_with_it(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def test() -> None:
        batcher = make(Engine(), BatchPolicy())

        def broken(_: Outputs | Exception) -> None:
            raise ZeroDivisionError

        batcher.enqueue(rows(1), broken)
        assert (await batcher.submit(rows(2)))["y"].tolist() == [3.0]

    run(test)
    assert "could not be told" in caplog.text


def test_a_poisoned_request_among_many_costs_few_runs() -> None:
    async def test() -> None:
        engine = Engine(is_open=False)
        batcher = make(engine, BatchPolicy())
        first = asyncio.create_task(batcher.submit(rows(0)))
        await busy(engine)
        values = [POISON if i == 37 else float(i) for i in range(64)]
        calls = [asyncio.create_task(batcher.submit(rows(x))) for x in values]
        await settle()
        engine.gate.set()
        await first
        answers = await asyncio.gather(*calls, return_exceptions=True)
        assert [i for i, each in enumerate(answers) if isinstance(each, Exception)] == [37]
        assert len(engine.batches) <= 1 + 2 * 6 + 1

    run(test)


def test_an_engine_that_died_fails_its_batch_at_once() -> None:
    calls = []

    def dead(columns: Columns) -> Outputs:
        calls.append(columns)
        raise EngineError(503, "the engine has died")

    async def test() -> None:
        batcher = make(dead, BatchPolicy())
        answers = [asyncio.create_task(batcher.submit(rows(i))) for i in range(8)]
        for answer in answers:
            with pytest.raises(EngineError, match="has died"):
                await answer
        assert len(calls) == 1

    run(test)


def test_an_engine_that_hangs_is_found_and_its_requests_are_told() -> None:
    async def test() -> None:
        engine = Engine(is_open=False)
        batcher = make(engine, BatchPolicy(timeout_s=0.02, hang_after_s=0.01))
        batcher.check_health()
        calls = [asyncio.create_task(batcher.submit(rows(i))) for i in range(3)]
        for call in calls:
            with pytest.raises(RequestError, match="in the engine, which has not answered"):
                await call
        with pytest.raises(RuntimeError, match=r"a batch of 3 requests has been running for 0\."):
            batcher.check_health()
        await batcher.close()
        engine.gate.set()

    run(test)


def test_clients_that_leave_while_the_engine_hangs_leave_nothing_behind() -> None:
    async def test() -> None:
        engine = Engine(is_open=False)
        batcher = make(engine, BatchPolicy(max_rows=1))
        first = asyncio.create_task(batcher.submit(rows(0)))
        await busy(engine)
        for i in range(1000):
            batcher.enqueue(rows(i), lambda _: None)()
        assert batcher.num_waiting_rows == 0
        assert sum(map(len, batcher._queue._lanes.values())) < 200
        engine.gate.set()
        await first
        await batcher.close()
        assert engine.batches == [[0.0]]

    run(test)
