"""Versions that memory does not hold beside others: refused, or swapped one by one."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import replace
from typing import Literal

import numpy as np
import pytest
from numpy.typing import NDArray

from raymlops.data import Columns
from raymlops.errors import IntegrityError, ModelError, RequestError
from raymlops.models import PROBABILITY, Bundle, Preprocessing
from raymlops.serve import BatchPolicy
from raymlops.serve.engines import EngineSettings
from raymlops.serve.versions.arms import Arms
from raymlops.serve.versions.swapping import SwapPolicy
from tests.serve.coroutines import run, until
from tests.serve.versions.surroundings import engines, table


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
        await until(lambda: not arms.versions)
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
