from __future__ import annotations

import multiprocessing
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from raymlops.data import Columns
from raymlops.errors import EngineError, UntrustedError
from raymlops.models import PROBABILITY, Bundle, format_named
from raymlops.serve.engines import BundleRunner, EngineSettings
from raymlops.serve.engines.isolated import IsolatedRunner
from tests.serve.engines import deadly

SETTINGS = EngineSettings(isolate=True)


@pytest.fixture(scope="module")
def bundle(bundles: dict[str, Bundle]) -> Bundle:
    """The tumours' columns, asked of a function that some of them kill."""
    artifact = format_named("python").save(deadly.predict, np.zeros((2, 8), np.float32))
    return replace(
        bundles["1.0.0"],
        model=artifact.data, format="python", architecture=None, requirements=(), trusted=True,
    )  # fmt: skip


@pytest.fixture(scope="module")
def runner(bundle: Bundle) -> Iterator[IsolatedRunner]:
    runner = IsolatedRunner(bundle, SETTINGS, limit_s=60.0)
    yield runner
    runner.close()
    assert not [p for p in multiprocessing.active_children() if p.name == "engine"]


def with_radius(bundle: Bundle, radius: float) -> Columns:
    columns = dict(bundle.sample(3))
    columns["radius"] = np.array([14.0, radius, 14.0])
    return columns


def test_a_process_answers_like_its_parent(bundle: Bundle, runner: IsolatedRunner) -> None:
    columns = bundle.sample(20)
    mine, theirs = BundleRunner(bundle, EngineSettings())(columns), runner(columns)
    np.testing.assert_array_equal(mine[PROBABILITY], theirs[PROBABILITY])


def test_a_crash_and_a_hang_fail_one_batch_and_the_next_is_answered(
    bundle: Bundle, runner: IsolatedRunner
) -> None:
    good = with_radius(bundle, 14.0)
    with pytest.raises(EngineError, match=r"process died \(exit code -11\); another one") as died:
        runner(with_radius(bundle, 90.0))
    assert died.value.status == 503
    assert len(runner(good)[PROBABILITY]) == 3
    runner._limit_s = 0.2
    with pytest.raises(EngineError, match=r"took more than 0\.2 s for a batch; it is ended"):
        runner(with_radius(bundle, 0.0))
    runner._limit_s = 60.0
    assert len(runner(good)[PROBABILITY]) == 3
    runner.check_health()


def test_what_the_model_raises_is_no_death(bundle: Bundle, runner: IsolatedRunner) -> None:
    columns = dict(bundle.sample(3))
    del columns["radius"]
    with pytest.raises(KeyError, match="radius"):
        runner(columns)
    assert len(runner(bundle.sample(3))[PROBABILITY]) == 3


def test_a_process_that_cannot_load_the_model_says_why(bundle: Bundle) -> None:
    with pytest.raises(UntrustedError, match="python: loading it can run any code"):
        IsolatedRunner(replace(bundle, trusted=False), SETTINGS, limit_s=1.0)


def test_one_death_after_the_other_is_bad_health(bundle: Bundle, runner: IsolatedRunner) -> None:
    runner.check_health()
    runner._num_deaths = 3
    with pytest.raises(RuntimeError, match="died 3 times in a row"):
        runner.check_health()
    assert len(runner(bundle.sample(3))[PROBABILITY]) == 3
    runner.check_health()
