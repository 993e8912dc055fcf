from __future__ import annotations

import numpy as np
import pytest

from raymlops.data import Columns, Feature, read_columns, take
from raymlops.data.drift import judge, judge_jointly
from raymlops.data.drift.jointly import JOINT_THRESHOLD
from raymlops.data.drift.policy import DriftPolicy
from raymlops.demo.flights import load_flights
from tests.data.drift.counted import numbers

NUMBERS = ("temp", "dewp", "wind_speed", "pressure", "distance", "seats")
FEATURES = (
    *(Feature(name=name, kind="number", max_missing=1.0) for name in NUMBERS),
    *(Feature(name=name, kind="category", max_missing=1.0) for name in ("origin", "dest")),
)


@pytest.fixture(scope="module")
def flights() -> Columns:
    return read_columns(load_flights(), FEATURES)


def draw(columns: Columns, num_rows: int, seed: int) -> Columns:
    chosen = np.random.default_rng(seed).choice(len(columns["temp"]), num_rows, replace=False)
    return take(columns, chosen)


@pytest.mark.parametrize("name", ["dewp", "dest"])
def test_a_column_that_is_paired_anew_is_seen_though_its_values_are_the_same(
    flights: Columns, name: str
) -> None:
    reference, window = draw(flights, 2_000, 0), dict(draw(flights, 2_000, 1))
    window[name] = np.random.default_rng(2).permutation(window[name])
    effect, p_value = judge_jointly(reference, window)
    assert effect > JOINT_THRESHOLD
    assert p_value < 1e-6
    alone = [numbers(reference[each], window[each]) for each in NUMBERS]
    assert not any(row.drifted for row in judge(alone, 2_000, DriftPolicy()))


def test_rows_of_one_year_cannot_be_told_apart(flights: Columns) -> None:
    effect, p_value = judge_jointly(draw(flights, 2_000, 2), draw(flights, 2_000, 3))
    assert effect < JOINT_THRESHOLD
    assert p_value > 0.05


def test_without_drift_small_p_values_are_no_more_frequent_than_they_say() -> None:
    rng = np.random.default_rng(0)

    def side() -> Columns:
        x = rng.integers(0, 5, 120).astype(float)  # ties, and a correlation that is in both
        y = x + rng.normal(size=120)
        return {"x": x, "y": np.where(rng.random(120) < 0.1, np.nan, y)}

    p_values = np.array([judge_jointly(side(), side()).p_value for _ in range(300)])
    assert (p_values < 0.05).mean() < 0.05 + 3 * np.sqrt(0.05 * 0.95 / 300)
    assert (p_values < 0.01).mean() < 0.01 + 3 * np.sqrt(0.01 * 0.99 / 300)


def test_of_many_columns_mixtures_are_judged() -> None:
    rng = np.random.default_rng(0)
    reference = {f"x{each}": rng.normal(size=1_000) for each in range(60)}
    window = {f"x{each}": rng.normal(0.5, size=1_000) for each in range(60)}
    assert judge_jointly(reference, window).p_value < 1e-6


@pytest.mark.parametrize("value", [np.nan, np.inf, 7.0], ids=["missing", "infinite", "constant"])
def test_columns_that_hold_nothing_tell_nothing_apart(value: float) -> None:
    columns = {"x": np.full(200, value)}
    assert judge_jointly(columns, columns) == (0.0, 1.0)


def test_too_few_rows_tell_nothing_apart() -> None:
    assert judge_jointly({"x": np.arange(99.0)}, {"x": np.arange(1_000.0)}) == (0.0, 1.0)
