from __future__ import annotations

import asyncio
import time
from typing import Any

import numpy as np
import pytest

from raymlops.data import Columns
from raymlops.errors import RequestError
from raymlops.serve.batching import Batcher, BatchPolicy, Outputs
from raymlops.serve.caching import CachePolicy, LruCache, PredictionCache
from raymlops.serve.caching.predictions import Key
from tests.serve.coroutines import run


def rows(*values: float) -> Columns:
    return {"x": np.array(values)}


class Engine:
    """Answers x + 1 from a thread, and takes its time."""

    def __init__(self, seconds: float = 0.0) -> None:
        self.seconds = seconds
        self.batches: list[list[float]] = []

    def __call__(self, columns: Columns) -> Outputs:
        self.batches.append(columns["x"].tolist())
        time.sleep(self.seconds)
        if -1.0 in columns["x"]:
            raise ZeroDivisionError("poison")
        return {"y": columns["x"] + 1}


class Asked:
    """A cache before a batcher, and what it told those who asked."""

    def __init__(self, engine: Engine) -> None:
        self.known: LruCache[Key, Outputs] = LruCache(CachePolicy())
        self.batcher = Batcher(engine, BatchPolicy(max_rows=1))
        self.cache = PredictionCache("1.0.0", self.batcher.enqueue, self.known)

    async def ask(self, columns: Columns, **how: Any) -> Any:
        answer = asyncio.get_running_loop().create_future()
        self.cache.enqueue(columns, answer.set_result, **how)
        return await answer


def test_what_is_known_is_not_computed_again() -> None:
    async def test() -> None:
        engine = Engine()
        asked = Asked(engine)
        for _ in range(3):
            assert (await asked.ask(rows(1, 2)))["y"].tolist() == [2.0, 3.0]
        assert (await asked.ask(rows(2, 1)))["y"].tolist() == [3.0, 2.0]
        assert engine.batches == [[1.0, 2.0], [2.0, 1.0]]
        stats = asked.known.stats
        assert (stats.hits, stats.misses, stats.joined) == (2, 2, 0)
        await asked.batcher.close()

    run(test)


def test_all_who_miss_together_are_answered_by_one_computation() -> None:
    async def test() -> None:
        engine = Engine(0.02)
        asked = Asked(engine)
        answers = await asyncio.gather(*(asked.ask(rows(1)) for _ in range(10)))
        assert [answer["y"].tolist() for answer in answers] == [[2.0]] * 10
        assert engine.batches == [[1.0]]
        assert (asked.known.stats.misses, asked.known.stats.joined) == (1, 9)
        await asked.batcher.close()

    run(test)


def test_an_error_is_told_to_all_and_not_remembered() -> None:
    async def test() -> None:
        engine = Engine(0.01)
        asked = Asked(engine)
        answers = await asyncio.gather(*(asked.ask(rows(-1)) for _ in range(3)))
        assert {type(answer) for answer in answers} == {ZeroDivisionError}
        assert isinstance(await asked.ask(rows(-1)), ZeroDivisionError)
        assert len(engine.batches) == 2
        await asked.batcher.close()

    run(test)


def test_who_leaves_or_is_late_does_so_alone() -> None:
    async def test() -> None:
        engine = Engine(0.05)
        asked = Asked(engine)
        told: list[Any] = []
        leave = asked.cache.enqueue(rows(1), told.append)
        late = asyncio.create_task(asked.ask(rows(1), timeout_s=0.01))
        patient = asyncio.create_task(asked.ask(rows(1), timeout_s=5.0))
        await asyncio.sleep(0)
        leave()
        answer = await late
        assert isinstance(answer, RequestError)
        assert (answer.status, str(answer)) == (504, "the deadline passed after 0.010 s")
        assert (await patient)["y"].tolist() == [2.0]
        assert told == []
        assert engine.batches == [[1.0]]
        await asked.batcher.close()

    run(test)


def test_a_computation_that_nobody_wants_any_more_is_given_up() -> None:
    async def test() -> None:
        engine = Engine(0.03)
        asked = Asked(engine)
        busy = asyncio.create_task(asked.ask(rows(0)))
        await asyncio.sleep(0.01)
        leave = [asked.cache.enqueue(rows(1), print) for _ in range(2)]
        for each in leave:
            each()
            each()
        assert asked.batcher.num_waiting_rows == 0
        await busy
        await asked.batcher.close()
        assert engine.batches == [[0.0]]
        assert (await asyncio.gather(busy))[0]["y"].tolist() == [1.0]

    run(test)


def test_an_answer_is_a_copy_that_nobody_can_change() -> None:
    async def test() -> None:
        asked = Asked(Engine())
        await asked.ask(rows(1))
        answer = await asked.ask(rows(1))
        assert answer["y"].base is None
        with pytest.raises(ValueError, match="read-only"):
            answer["y"][0] = 7.0
        await asked.batcher.close()

    run(test)
