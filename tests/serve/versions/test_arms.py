from __future__ import annotations

import asyncio
import multiprocessing
import os
import threading
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import pytest
from numpy.typing import NDArray

from raymlops.data import Columns
from raymlops.errors import IntegrityError, ModelError, NotFoundError, RequestError
from raymlops.ledger import Ledger
from raymlops.models import PROBABILITY, Bundle, Preprocessing
from raymlops.serve import Arm, BatchPolicy, TrafficTable
from raymlops.serve.batching import EngineSpeed
from raymlops.serve.caching import CachePolicy
from raymlops.serve.engines import EngineSettings
from raymlops.serve.versions.arms import Arms
from raymlops.serve.versions.loaded import bundle_loader
from raymlops.serve.versions.swapping import SwapPolicy
from raymlops.storage import Store
from tests.serve.conftest import MODEL, VERSIONS, World
from tests.serve.coroutines import run


def table(*versions: str) -> TrafficTable:
    arms = tuple(
        Arm(name=version, version=version, share=1 / len(versions)) for version in versions
    )
    return TrafficTable(model=MODEL, arms=arms)


class Refusing(Preprocessing):
    def transform(self, columns: Columns) -> NDArray[np.float32]:
        raise ModelError("no such column")


def engines() -> list[multiprocessing.process.BaseProcess]:
    """The processes of engines that run isolated."""
    return [each for each in multiprocessing.active_children() if each.name == "engine"]


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


def test_a_version_that_memory_does_not_hold_beside_the_old_is_refused(
    bundles: dict[str, Bundle],
) -> None:
    async def test() -> None:
        arms = Arms(bundles.__getitem__, BatchPolicy(), free_bytes=lambda: 255 * 2**20)
        await arms.apply(table("1.0.0"))  # the first one has nobody to be beside
        with pytest.raises(
            ModelError,
            match=r"1\.0\.1 needs about \d+ MiB beside .*, 255 MiB are free, of which 256 MiB stay "
            r"in reserve: .* serve\.swap\.mode to rolling",
        ):
            await arms.apply(table("1.0.1"))
        assert arms.of_key("anna")[1].version == "1.0.0"
        await arms.close()

    run(test)


@pytest.mark.parametrize("mode", ["beside", "rolling"])
def test_a_canary_that_memory_does_not_hold_beside_the_champion_is_refused(
    bundles: dict[str, Bundle], mode: Literal["beside", "rolling"]
) -> None:
    """Memory was looked at where a version was to go, as in no release."""
    free = 0

    async def test() -> None:
        nonlocal free
        swap = SwapPolicy(mode=mode)
        arms = Arms(bundles.__getitem__, BatchPolicy(), swap=swap, free_bytes=lambda: free)
        await arms.apply(table("1.0.0"))
        with pytest.raises(ModelError, match=r"1\.0\.1 needs .* give the node more memory$"):
            await arms.apply(table("1.0.0", "1.0.1"))
        assert arms.versions == ("1.0.0",)
        free = 2**40
        await arms.apply(table("1.0.0", "1.0.1"))
        assert arms.versions == ("1.0.0", "1.0.1")
        await arms.close()

    run(test)


def test_two_first_versions_that_memory_does_not_hold_are_refused(
    bundles: dict[str, Bundle],
) -> None:
    async def test() -> None:
        arms = Arms(bundles.__getitem__, BatchPolicy(), free_bytes=lambda: 0)
        with pytest.raises(ModelError, match=r"1\.0\.1 needs .* give the node more memory$"):
            await arms.apply(table("1.0.0", "1.0.1"))
        assert arms.versions == ()
        await arms.close()

    run(test)


def test_a_rolling_swap_unloads_first_and_takes_back_what_cannot_be_replaced(
    bundles: dict[str, Bundle],
) -> None:
    loading: list[tuple[str, tuple[str, ...]]] = []
    may_run = threading.Event()
    may_run.set()

    class Held(Preprocessing):
        """Keeps the old version at its last batch, so that it cannot be gone too soon."""

        def transform(self, columns: Columns) -> NDArray[np.float32]:
            may_run.wait()
            return super().transform(columns)

    async def test() -> None:
        def load(version: str) -> Bundle:
            bundle = bundles[version]
            if version == "1.0.0":
                return replace(bundle, preprocessing=Held(encodings=bundle.preprocessing.encodings))
            return replace(bundle, model=b"broken") if version == "1.0.2" else bundle

        def free_bytes() -> int:
            loading.append(("asked", arms.versions))
            return 0

        in_a_thread, swap_policy = BatchPolicy(inline_below_s=0.0), SwapPolicy(mode="rolling")
        arms = Arms(load, in_a_thread, swap=swap_policy, free_bytes=free_bytes)
        await arms.apply(table("1.0.0"))
        old = arms.of_key("anna")[1]
        may_run.clear()
        call = asyncio.create_task(old.batcher.submit(bundles["1.0.0"].sample(1)))
        await asyncio.sleep(0)
        swap = asyncio.create_task(arms.apply(table("1.0.1")))
        while arms.versions:  # noqa: ASYNC110 - arms tell nobody when they are empty
            await asyncio.sleep(0.001)
        with pytest.raises(RequestError, match=r"1\.0\.0 is being replaced") as told:
            arms.of_key("anna")
        assert (told.value.status, told.value.retry_after_s) == (503, 5.0)
        may_run.set()
        await swap
        assert PROBABILITY in await call
        assert arms.of_key("anna")[1].version == "1.0.1"
        with pytest.raises(ModelError):
            await arms.apply(table("1.0.2"))
        assert arms.of_key("anna")[1].version == "1.0.1"
        await arms.of_key("anna")[1].batcher.submit(bundles["1.0.1"].sample(1))
        await arms.close()

    run(test)
    assert loading == [("asked", ("1.0.0",)), ("asked", ("1.0.1",))]


def test_a_rolling_swap_to_two_versions_of_which_one_fails_changes_nothing(
    bundles: dict[str, Bundle],
) -> None:
    """The old version was gone for good, and the process of the first new one outlived its arms."""

    def load(version: str) -> Bundle:
        if version == "1.0.2":
            raise IntegrityError("changed")
        return replace(bundles[version])  # as it came, without the session it may have begun

    async def test() -> None:
        free = iter([0, 2**40])
        arms = Arms(
            load,
            BatchPolicy(),
            EngineSettings(isolate=True),
            swap=SwapPolicy(mode="rolling"),
            free_bytes=lambda: next(free),
        )
        await arms.apply(table("1.0.0"))
        with pytest.raises(IntegrityError):
            await arms.apply(table("1.0.1", "1.0.2"))
        assert arms.versions == ("1.0.0",)
        assert len(engines()) == 1
        assert PROBABILITY in await arms.of_key("anna")[1].batcher.submit(
            bundles["1.0.0"].sample(1)
        )
        await arms.close()
        assert engines() == []

    run(test, timeout_s=60.0)


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
