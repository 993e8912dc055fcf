from __future__ import annotations

import asyncio
import gc
import threading
import time
import weakref

import numpy as np
import pytest

from raymlops.data import Columns, num_rows
from raymlops.errors import RequestError
from raymlops.serve.batching import BatchPolicy, EngineSpeed, Outputs
from tests.serve.batching.engine import POISON, Engine, busy, make, rows, run, settle


def test_every_caller_is_answered_not_only_the_one_that_fills_the_batch() -> None:
    async def test() -> None:
        batcher = make(Engine(), BatchPolicy(max_rows=4))
        answers = await asyncio.gather(*(batcher.submit(rows(i)) for i in range(11)))
        assert [answer["y"].tolist() for answer in answers] == [[i + 1.0] for i in range(11)]

    run(test)


def test_requests_that_arrive_while_the_engine_works_form_its_next_batch() -> None:
    async def test() -> None:
        engine = Engine(is_open=False)
        batcher = make(engine, BatchPolicy(max_rows=4))
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
        batcher = make(engine, BatchPolicy(max_rows=3, max_wait_s=60.0))
        await asyncio.gather(*(batcher.submit(rows(i)) for i in range(3)))
        assert engine.batches == [[0.0, 1.0, 2.0]]

    run(test)


def test_a_busy_loop_is_not_taken_for_the_end_of_a_burst() -> None:
    """Who comes while the loop does something else is in no batch before its socket is read."""

    async def test() -> None:
        engine = Engine(is_open=False)
        batcher = make(engine, BatchPolicy(max_wait_s=0.5))
        first = asyncio.create_task(batcher.submit(rows(0)))
        await busy(engine)
        burst = [asyncio.create_task(batcher.submit(rows(0))) for _ in range(20)]
        await settle()
        engine.gate.set()
        await asyncio.gather(first, *burst)

        calls = [asyncio.create_task(batcher.submit(rows(number))) for number in (1, 2)]
        await asyncio.sleep(0)
        time.sleep(0.3)  # noqa: ASYNC251 - the loop is away for three times what a burst may pause
        await asyncio.sleep(0)
        calls.append(asyncio.create_task(batcher.submit(rows(3))))
        await asyncio.gather(*calls)
        assert engine.batches[2:] == [[1.0, 2.0, 3.0]]

    run(test)


def test_a_client_that_disconnects_does_not_wedge_the_batcher() -> None:
    async def test() -> None:
        engine = Engine(is_open=False)
        batcher = make(engine, BatchPolicy(max_rows=1, max_queue_rows=3))
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


def test_rows_come_back_to_the_caller_they_came_from() -> None:
    async def test() -> None:
        rng = np.random.default_rng(7)
        engine = Engine()
        batcher = make(engine, BatchPolicy(max_rows=64, max_queue_rows=100_000))

        async def call(caller: int) -> None:
            for turn in range(10):
                x = rng.random(int(rng.integers(1, 40))) + caller * 1000 + turn
                answer = await batcher.submit({"x": x})
                np.testing.assert_array_equal(answer["y"], x + 1)

        await asyncio.gather(*(call(caller) for caller in range(100)))
        assert len(engine.batches) < 1000

    run(test)


def test_a_full_queue_refuses_and_recovers() -> None:
    async def test() -> None:
        engine = Engine(is_open=False)
        batcher = make(engine, BatchPolicy(max_rows=2, max_queue_rows=3))
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
        batcher = make(engine, BatchPolicy(max_rows=2, max_wait_s=60.0))
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


def test_a_request_whose_deadline_has_passed_is_told_and_never_runs() -> None:
    async def test() -> None:
        engine = Engine(is_open=False)
        batcher = make(engine, BatchPolicy(max_rows=1))
        first = asyncio.create_task(batcher.submit(rows(0)))
        await busy(engine)
        late = asyncio.create_task(batcher.submit(rows(1), timeout_s=0.02))
        patient = asyncio.create_task(batcher.submit(rows(2)))
        with pytest.raises(RequestError, match=r"passed after 0\.0\d\d s in the queue") as told:
            await late
        assert told.value.status == 504
        engine.gate.set()
        await asyncio.gather(first, patient)
        assert engine.batches == [[0.0], [2.0]]
        assert batcher.num_waiting_rows == batcher.num_unanswered == 0

    run(test)


def test_a_priority_overtakes_but_not_for_ever() -> None:
    async def test() -> None:
        engine = Engine(is_open=False)
        batcher = make(engine, BatchPolicy(max_rows=1, priority_step_s=0.02))
        calls = [asyncio.create_task(batcher.submit(rows(0)))]
        await busy(engine)
        calls += [asyncio.create_task(batcher.submit(rows(i))) for i in (1, 2)]
        await settle()
        calls.append(asyncio.create_task(batcher.submit(rows(3), priority=1)))
        await asyncio.sleep(0.03)
        calls.append(asyncio.create_task(batcher.submit(rows(4), priority=1)))
        await settle()
        engine.gate.set()
        await asyncio.gather(*calls)
        assert engine.batches == [[0.0], [3.0], [1.0], [2.0], [4.0]]

    run(test)


def test_a_full_queue_says_when_there_will_be_room() -> None:
    async def test() -> None:
        engine = Engine(is_open=False)
        speed = EngineSpeed({100: 10.0})
        batcher = make(engine, BatchPolicy(max_rows=1, max_queue_rows=30), speed=speed)
        calls = [asyncio.create_task(batcher.submit(rows(0)))]
        await busy(engine)
        calls += [asyncio.create_task(batcher.submit(rows(i))) for i in range(30)]
        await settle()
        with pytest.raises(RequestError, match="30 rows wait already") as full:
            await batcher.submit(rows(1))
        assert full.value.retry_after_s == pytest.approx(3.0)
        engine.gate.set()
        await asyncio.gather(*calls)

    run(test)


def test_several_instances_run_at_once() -> None:
    async def test() -> None:
        engine, prepared = Engine(is_open=False), list[int]()
        batcher = make(engine, BatchPolicy(max_rows=1), num_instances=3, prepare=prepared.append)
        calls = [asyncio.create_task(batcher.submit(rows(i))) for i in range(4)]
        for _ in range(3):
            await busy(engine)
        assert len(engine.batches) == 3
        engine.gate.set()
        await asyncio.gather(*calls)
        assert sorted(prepared) == [0, 1, 2]
        await batcher.close()

    run(test)


def test_an_engine_that_proved_fast_runs_without_a_thread() -> None:
    async def test() -> None:
        threads = list[str]()

        def engine(columns: Columns) -> Outputs:
            threads.append(threading.current_thread().name)
            if POISON in columns["x"]:
                raise ZeroDivisionError("poison")
            return {"y": columns["x"] + 1}

        batcher = make(engine, BatchPolicy(), speed=EngineSpeed({1: 1e-5, 32: 1e-4}))
        calls = [batcher.submit(rows(x)) for x in (1.0, POISON, 2.0)]
        one, poison, two = await asyncio.gather(*calls, return_exceptions=True)
        assert (one["y"].tolist(), two["y"].tolist()) == ([2.0], [3.0])
        assert isinstance(poison, ZeroDivisionError)
        await batcher.submit(rows(*range(200)))  # expected to take 0.6 ms
        assert {*threads[:-1]} == {"MainThread"}
        assert threads[-1] == "engine"
        await batcher.close()

    run(test)


def test_a_lone_client_is_never_made_to_wait() -> None:
    async def test() -> None:
        batcher = make(Engine(), BatchPolicy(max_wait_s=60.0))
        for i in range(20):
            await batcher.submit(rows(i))

    run(test)


def test_what_was_answered_is_freed_without_a_search_for_garbage() -> None:
    class Asking:
        """Knows how to give its request up, and so the request, which knows it."""

        def done(self, result: Outputs | Exception) -> None:
            self.result = result

    async def test() -> None:
        batcher = make(Engine(), BatchPolicy())
        asking = Asking()
        asking.give_up = batcher.enqueue(rows(1.0), asking.done)  # type: ignore[attr-defined]
        kept = weakref.ref(asking)
        await batcher.submit(rows(2.0))
        assert asking.result["y"].tolist() == [2.0]  # type: ignore[index]
        del asking
        assert kept() is None

    gc.disable()
    try:
        run(test)
    finally:
        gc.enable()
