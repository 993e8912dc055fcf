from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from sklearn.datasets import load_wine

from raymlops.data import SCORE, Columns, Counts, Feature, Profile
from raymlops.ledger import Drift
from raymlops.monitor import DriftPolicy, FeatureDrift, compare
from raymlops.monitor.drift import earlier_looks, judge_window
from tests.monitor.conftest import FEATURES, columns_of

POLICY = DriftPolicy()
NO_FLOORS = DriftPolicy(thresholds={"ks": 0.0, "missing": 0.0, "chi2": 0.0})


def _number(name: str) -> Feature:
    return Feature(name=name, kind="number", max_missing=1.0)


FIFTY = tuple(_number(f"x{index}") for index in range(50))


def _normal(rng: np.random.Generator, num_rows: int, first_shifts: float = 0.0) -> Columns:
    columns = {feature.name: rng.standard_normal(num_rows) for feature in FIFTY}
    columns["x0"] += first_shifts
    return columns


def _profile(columns: Columns, features: tuple[Feature, ...]) -> Profile:
    return Profile.of(features, columns, _scores(columns), label_rate=0.2, log_loss=0.5)


def _scores(columns: Columns) -> np.ndarray:
    """A score that never drifts."""
    return np.linspace(0, 1, len(next(iter(columns.values()))), dtype=np.float32)


def _count(profile: Profile, columns: Columns) -> Counts:
    return profile.count(columns, _scores(columns))


def _one(reference: list | np.ndarray, window: list | np.ndarray, **policy: float) -> FeatureDrift:
    """The verdict on a single number feature."""
    features = (_number("x"),)
    profile = _profile({"x": np.asarray(reference, dtype=float)}, features)
    counts = _count(profile, {"x": np.asarray(window, dtype=float)})
    return compare(profile, counts, DriftPolicy(**{"min_rows": 1, **policy}))[0]


def _category(reference: list[str | None], window: list[str | None]) -> FeatureDrift:
    features = (Feature(name="c", kind="category", max_missing=1.0),)
    profile = _profile({"c": np.array(reference, dtype=object)}, features)
    counts = _count(profile, {"c": np.array(window, dtype=object)})
    return compare(profile, counts, DriftPolicy(min_rows=1))[0]


def test_ties_and_all_it_agrees_with_scipys_ks_test() -> None:
    rng = np.random.default_rng(0)
    reference, window = rng.poisson(5, 3_000), rng.poisson(5.1, 2_000)
    found = _one(reference, window)
    expected = stats.ks_2samp(reference, window, method="asymp")
    assert found.effect == pytest.approx(expected.statistic, abs=1e-12)
    assert found.p_value == pytest.approx(expected.pvalue, rel=0.01)


@pytest.mark.parametrize("name", load_wine().feature_names)
def test_bins_lose_at_most_one_bins_share_of_scipys_distance(name: str) -> None:
    wine = load_wine(as_frame=True)
    column = wine.data[name].to_numpy()
    reference, window = column[wine.target == 0], column[wine.target != 0]
    exact = stats.ks_2samp(reference, window).statistic
    assert exact - 1 / len(reference) <= _one(reference, window).effect <= exact + 1e-12


def test_categories_agree_with_scipys_chi_square() -> None:
    reference = ["a"] * 500 + ["b"] * 300 + ["c"] * 200
    window = ["a"] * 230 + ["b"] * 170 + ["c"] * 100
    found = _category(reference, window)
    table = [[500, 300, 200], [230, 170, 100]]
    expected = stats.chi2_contingency(table, correction=False, lambda_="cressie-read")
    assert found.p_value == pytest.approx(expected.pvalue, rel=1e-9)
    assert found.effect == pytest.approx(0.04)
    assert not found.drifted


def test_of_many_rare_categories_some_come_again() -> None:
    rng = np.random.default_rng(0)
    names = ["a"] * 960 + [f"rare-{index}" for index in range(40)]
    reference = rng.choice(names, 10_000).tolist()
    assert _category(reference, rng.choice(names, 500).tolist()).p_value > 0.05


def test_new_categories_are_drift() -> None:
    found = _category(["a", "b"] * 500, ["a", "b"] * 400 + ["new"] * 100)
    assert found.drifted
    assert found.effect == pytest.approx(1 / 9)


def test_a_tenth_of_a_standard_deviation_is_found_among_fifty_features() -> None:
    rng = np.random.default_rng(2)
    profile = _profile(_normal(rng, 20_000), FIFTY)
    for _ in range(10):
        found = compare(profile, _count(profile, _normal(rng, 10_000, 0.1)), POLICY)
        assert [row.feature for row in found if row.drifted] == ["x0"]


def test_an_irrelevant_shift_in_a_million_rows_is_significant_but_no_alarm() -> None:
    rng = np.random.default_rng(3)
    found = [
        _one(rng.standard_normal(1_000_000), rng.standard_normal(1_000_000) + 0.005)
        for _ in range(3)
    ]
    assert sum(row.p_value < 0.05 for row in found) >= 1
    assert not any(row.drifted for row in found)


def test_one_missing_value_does_not_hide_a_shift() -> None:
    # scipy.stats.ks_2samp answers NaN here, and `nan < 0.05` is false.
    rng = np.random.default_rng(4)
    window = rng.standard_normal(1_000) + 5
    window[17] = np.nan
    found = _one(rng.standard_normal(1_000), window)
    assert (found.test, found.drifted) == ("ks", True)


def test_values_that_go_missing_are_drift() -> None:
    rng = np.random.default_rng(5)
    values = rng.standard_normal(2_000)
    found = _one(values, np.where(np.arange(2_000) % 10 == 0, np.nan, values))
    assert (found.test, found.drifted, found.effect) == ("missing", True, pytest.approx(0.1))


def test_a_window_with_nothing_but_missing_values_is_drift() -> None:
    found = _one(np.arange(1_000), np.full(500, np.nan))
    assert (found.test, found.drifted, found.effect) == ("missing", True, 1.0)


def test_a_feature_that_was_always_missing_and_still_is_has_not_drifted() -> None:
    found = _one(np.full(1_000, np.nan), np.full(500, np.nan))
    assert (found.drifted, found.effect, found.p_value) == (False, 0.0, 1.0)


def test_three_missing_of_500_against_none_of_80_000_stay_under_the_floor() -> None:
    found = _one(np.arange(80_000), np.where(np.arange(500) < 3, np.nan, np.arange(500) * 160))
    assert not found.drifted


@pytest.mark.parametrize(("value", "drifted"), [(5.0, False), (4.0, True), (6.0, True)])
def test_a_constant_that_moves_is_drift(value: float, drifted: bool) -> None:
    # Edges at seen values alone put 6 into the cell of 5: a constant could rise unnoticed.
    assert _one(np.full(1_000, 5.0), np.full(500, value)).drifted is drifted


def test_a_window_with_too_few_rows_is_not_judged() -> None:
    rng = np.random.default_rng(6)
    profile = _profile(_normal(rng, 1_000), FIFTY)
    assert compare(profile, _count(profile, _normal(rng, 499)), POLICY) == ()
    assert len(compare(profile, _count(profile, _normal(rng, 500)), POLICY)) == 51
    assert compare(profile, np.zeros(profile.num_cells, dtype=np.int64), POLICY) == ()


def test_the_score_is_judged_apart_from_the_inputs() -> None:
    rng = np.random.default_rng(7)
    columns = _normal(rng, 5_000)
    profile = _profile(columns, FIFTY)
    counts = profile.count(columns, _scores(columns) ** 2)
    *inputs, score = compare(profile, counts, POLICY)
    assert not any(row.drifted for row in inputs)
    assert (score.feature, score.drifted) == (SCORE, True)


def test_eight_shards_are_one_window(flights: pd.DataFrame) -> None:
    profile = _profile(columns_of(flights[flights["month"] <= 3]), FEATURES)
    july = flights[flights["month"] == 7]
    whole = _count_flights(profile, july)
    shards = [_count_flights(profile, july.iloc[start::8]) for start in range(8)]
    assert np.array_equal(sum(shards), whole)
    assert compare(profile, sum(shards), POLICY) == compare(profile, whole, POLICY)


def _count_flights(profile: Profile, table: pd.DataFrame) -> Counts:
    return profile.count(columns_of(table), np.full(len(table), 0.2, dtype=np.float32))


def test_the_year_warms_up_while_the_fleet_stays_the_same(flights: pd.DataFrame) -> None:
    winter = flights[flights["month"] <= 3]
    profile = _profile(columns_of(winter), FEATURES)
    for month, at_least in {4: 0.6, 7: 0.99, 10: 0.8}.items():
        counts = _count_flights(profile, flights[flights["month"] == month])
        found = {row.feature: row for row in compare(profile, counts, POLICY)}
        assert found["temp"].drifted
        assert found["temp"].effect > at_least
        assert not found["carrier"].drifted


def test_counts_of_another_profile_are_refused() -> None:
    profile = _profile({"x": np.arange(10.0)}, (_number("x"),))
    with pytest.raises(ValueError, match=r"shape \(3,\)"):
        compare(profile, np.zeros(3, dtype=np.int64), POLICY)


def _row(version: str, month: int, feature: str) -> Drift:
    start, end = datetime(2013, month, 1, tzinfo=UTC), datetime(2013, month + 1, 1, tzinfo=UTC)
    found = FeatureDrift(
        feature=feature, test="ks", num_rows=900, effect=0.3, p_value=0.0, drifted=True
    )
    return Drift(model="m", version=version, window_start=start, window_end=end, **asdict(found))


def test_looks_are_the_windows_of_one_version_since_its_reference() -> None:
    rows = [_row(*each) for each in [("2", 3, "x"), ("1", 2, "x"), ("2", 2, "x"), ("2", 2, "y")]]
    march, april = datetime(2013, 3, 1, tzinfo=UTC), datetime(2013, 4, 1, tzinfo=UTC)
    looks = earlier_looks(rows, "2", before=datetime(2013, 5, 1, tzinfo=UTC))
    assert [[row.feature for row in look] for look in looks] == [["x", "y"], ["x"]]
    assert len(earlier_looks(rows, "2", before=april)) == 1
    assert len(earlier_looks(rows, "2", before=datetime(2013, 5, 1, tzinfo=UTC), since=march)) == 1


def test_the_tenth_window_is_judged_more_strictly_than_the_first() -> None:
    values = np.arange(4_000.0)
    profile = _profile({"x": values}, (_number("x"),))
    counts = _count(profile, {"x": values + 160})  # p-value 0.003
    looks = [[_row("1", 1, "y")]] * 9
    assert judge_window(profile, counts, POLICY, [])[0].drifted
    assert not judge_window(profile, counts, POLICY, looks)[0].drifted
    lasting = DriftPolicy(debounce=2, spending=False)
    assert not judge_window(profile, counts, lasting, looks)[0].drifted
    assert judge_window(profile, counts, lasting, [[_row("1", 1, "x")]])[0].drifted
