from __future__ import annotations

import asyncio
import os
import threading
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from raymlops.data import Columns
from raymlops.errors import IntegrityError, ModelError, RequestError
from raymlops.models import PROBABILITY, Bundle, Preprocessing
from raymlops.serve import BatchPolicy
from raymlops.serve.batching import EngineSpeed
from raymlops.serve.caching import CachePolicy
from raymlops.serve.engines import EngineSettings
from raymlops.serve.versions.arms import Arms
from tests.serve.conftest import VERSIONS, World
from tests.serve.coroutines import run
from tests.serve.versions.surroundings import engines, table


class Refusing(Preprocessing):
    def transform(self, columns: Columns) -> NDArray[np.float32]:
        raise ModelError("no such column")


def test_a_table_is_followed_when_all_its_versions_are_loaded(bundles: dict[str, Bundle]) -> None:
    async def test() -> None:
        loaded: list[str] = []
        arms = Arms(lambda version: (loaded.append(version), bundles[version])[1], BatchPolicy())
        with pytest.raises(RequestError, match="no version is loaded yet"):
            arms.of_key("anna")
        await arms.apply(table("1.0.0"))
        await arms.apply(table("1.0.0", "1.0.1"))
        assert loaded == ["1.0.0", "1.0.1"]
        assert arms.rows_per_s > 100.0  # as the warm-up showed
        assert arms.versions == ("1.0.0", "1.0.1")
        await arms.apply(table("1.0.1"))
        assert arms.of_key("anna")[1].version == "1.0.1"
        with pytest.raises(RequestError, match=r"1\.0\.0 is not loaded; there are: 1\.0\.1"):
            arms.of_version("1.0.0")
        await arms.close()

    run(test)


def test_a_version_that_cannot_be_loaded_leaves_the_old_table(bundles: dict[str, Bundle]) -> None:
    def load(version: str) -> Bundle:
        if version == "1.0.2":
            raise IntegrityError("changed")
        return bundles[version]

    async def test() -> None:
        arms = Arms(load, BatchPolicy())
        await arms.apply(table("1.0.0"))
        with pytest.raises(IntegrityError):
            await arms.apply(table("1.0.1", "1.0.2"))
        assert arms.versions == ("1.0.0",)
        assert arms.of_key("anna")[1].version == "1.0.0"
        await arms.close()

    run(test)


def test_requests_in_a_replaced_version_are_answered_by_it(world: World) -> None:
    async def test() -> None:
        arms = Arms(world.bundles.__getitem__, BatchPolicy())
        await arms.apply(table("1.0.0"))
        _, old = arms.of_key("anna")
        calls = [asyncio.create_task(old.batcher.submit(world.rows(i, i + 2))) for i in range(50)]
        await asyncio.sleep(0)
        await arms.apply(table("1.0.1"))
        for i, answer in enumerate(await asyncio.gather(*calls)):
            wanted = world.bundles["1.0.0"].predict(world.rows(i, i + 2))
            np.testing.assert_allclose(answer[PROBABILITY], wanted[PROBABILITY], rtol=1e-6)
        await arms.close()
        with pytest.raises(RequestError, match="being unloaded"):
            await old.batcher.submit(world.rows(0, 1))

    run(test)


def test_a_version_is_freed_after_its_last_request(bundles: dict[str, Bundle]) -> None:
    async def test() -> None:
        before = {*threading.enumerate()}
        arms = Arms(bundles.__getitem__, BatchPolicy())
        for version in VERSIONS:
            await arms.apply(table(version))
            await arms.of_version(version)[1].batcher.submit(bundles[version].sample(1))
        await arms.close()
        for thread in {*threading.enumerate()} - before:
            if thread.name.startswith("engine"):
                await asyncio.to_thread(thread.join, 10.0)
        assert len({*threading.enumerate()} - before) <= 2  # those of to_thread

    run(test)


def test_a_pinned_request_is_no_sample_of_the_split(bundles: dict[str, Bundle]) -> None:
    async def test() -> None:
        arms = Arms(bundles.__getitem__, BatchPolicy())
        await arms.apply(table("1.0.0", "1.0.1"))
        arm, loaded = arms.of_version("1.0.1")
        assert (arm, loaded.version) == ("pinned", "1.0.1")
        await arms.close()

    run(test)


def test_an_engine_that_hangs_makes_the_replica_unhealthy(bundles: dict[str, Bundle]) -> None:
    gate = threading.Event()

    async def test() -> None:
        arms = Arms(bundles.__getitem__, BatchPolicy(hang_after_s=0.01, timeout_s=0.05))
        await arms.apply(table("1.0.0"))
        loaded = arms.of_key("anna")[1]
        loaded.batcher._run = lambda _: {"y": np.array([gate.wait(20.0)])}
        loaded.batcher.speed = EngineSpeed()
        arms.check_health()
        with pytest.raises(RequestError, match="the engine, which has not answered"):
            await loaded.batcher.submit(bundles["1.0.0"].sample(1))
        with pytest.raises(RuntimeError, match="a batch of 1 requests has been running"):
            arms.check_health()
        gate.set()
        await arms.close()

    run(test)


def test_a_version_that_fails_its_warm_up_leaves_no_process_behind(
    bundles: dict[str, Bundle],
) -> None:
    bundle = bundles["1.0.0"]
    refusing = replace(bundle, preprocessing=Refusing(encodings=bundle.preprocessing.encodings))

    async def test() -> None:
        arms = Arms(lambda _: refusing, BatchPolicy(), EngineSettings(isolate=True))
        with pytest.raises(ModelError, match="no such column"):
            await arms.apply(table("1.0.0"))
        assert engines() == []

    run(test, timeout_s=60.0)


def test_answers_are_remembered_by_version_when_that_is_asked_for(
    bundles: dict[str, Bundle],
) -> None:
    async def ask(arms: Arms) -> Any:
        answer = asyncio.get_running_loop().create_future()
        arms.of_key("anna")[1].enqueue(bundles["1.0.0"].sample(3), answer.set_result)
        return (await answer)[PROBABILITY].tolist()

    async def test() -> None:
        arms = Arms(bundles.__getitem__, BatchPolicy(), cache=CachePolicy())
        await arms.apply(table("1.0.0"))
        first = await ask(arms)
        assert await ask(arms) == first
        await arms.apply(table("1.0.1"))
        assert await ask(arms) != first
        assert arms.answers is not None
        assert (arms.answers.stats.hits, arms.answers.stats.misses) == (1, 2)
        assert len(arms.answers) == 1
        await arms.close()

    run(test)


def test_a_pinned_engine_runs_in_its_own_thread_alone(bundles: dict[str, Bundle]) -> None:
    async def test() -> None:
        cpu = min(os.sched_getaffinity(0))
        arms = Arms(bundles.__getitem__, BatchPolicy(), EngineSettings(cpus=(cpu,)))
        await arms.apply(table("1.0.0"))
        batcher = arms.of_key("anna")[1].batcher
        await batcher.submit(bundles["1.0.0"].sample(1))
        (worker,) = batcher._workers
        assert os.sched_getaffinity(worker._thread.native_id) == {cpu}
        await arms.close()

    run(test)
