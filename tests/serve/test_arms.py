from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Coroutine
from typing import Any

import numpy as np
import pytest

from raymlops.errors import IntegrityError, NotFoundError, RequestError
from raymlops.ledger import Ledger
from raymlops.models import PROBABILITY, Bundle
from raymlops.serve import Arm, BatchPolicy, TrafficTable
from raymlops.serve.arms import Arms, bundle_loader
from raymlops.serve.batching import EngineSpeed
from raymlops.serve.engines import EngineSettings
from raymlops.storage import Store
from tests.serve.conftest import MODEL, VERSIONS, World


def table(*versions: str) -> TrafficTable:
    arms = tuple(
        Arm(name=version, version=version, share=1 / len(versions)) for version in versions
    )
    return TrafficTable(model=MODEL, arms=arms)


def run(test: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(asyncio.wait_for(test(), 20.0))


def test_a_table_is_followed_when_all_its_versions_are_loaded(bundles: dict[str, Bundle]) -> None:
    async def test() -> None:
        loaded: list[str] = []
        arms = Arms(lambda version: (loaded.append(version), bundles[version])[1], BatchPolicy())
        with pytest.raises(RequestError, match="no version is loaded yet"):
            arms.of_key("anna")
        await arms.apply(table("1.0.0"))
        await arms.apply(table("1.0.0", "1.0.1"))
        assert loaded == ["1.0.0", "1.0.1"]
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
        before = threading.active_count()
        arms = Arms(bundles.__getitem__, BatchPolicy())
        for version in VERSIONS:
            await arms.apply(table(version))
            await arms.of_version(version)[1].batcher.submit(bundles[version].sample(1))
        await arms.close()
        engines = [thread for thread in threading.enumerate() if thread.name.startswith("engine")]
        for thread in engines:
            await asyncio.to_thread(thread.join, 10.0)
        assert threading.active_count() <= before + 2  # those of to_thread

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


def test_the_warm_up_rows_are_like_real_ones(world: World) -> None:
    columns = world.bundles["1.0.0"].sample(32)
    world.bundles["1.0.0"].signature.check(columns)
    assert {*columns["size"]} == {"large", "small"}
    assert columns["radius"].min() >= world.columns["radius"].min()


def test_bundles_come_from_the_ledger(world: World) -> None:
    with Ledger(world.ledger_url) as ledger:
        load = bundle_loader(MODEL, ledger, Store(world.store_uri))
        assert load("1.0.1") == world.bundles["1.0.1"]
        with pytest.raises(NotFoundError, match=r"no tumours 9\.9\.9"):
            load("9.9.9")
        with pytest.raises(NotFoundError, match="version 'newest' is not"):
            load("newest")
