"""What every drift test promises, whatever it measures."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from raymlops.data.bins import CategoryBins, NumberBins
from raymlops.data.drift import TESTS, TestName
from raymlops.demo.flights import load_flights
from tests.data.drift.counted import categories, measure, numbers

ALL = list(TESTS)
OF_NUMBERS = [name for name, test in TESTS.items() if "number" in test.judges]
OF_CATEGORIES = [name for name, test in TESTS.items() if "category" in test.judges]
OF_VALUES = [name for name in OF_NUMBERS if name != "missing"]


@pytest.fixture(scope="module")
def flights() -> pd.DataFrame:
    return load_flights().to_pandas()


def test_a_test_is_known_by_its_name() -> None:
    assert [test.name for test in TESTS.values()] == ALL


@pytest.mark.parametrize("name", OF_NUMBERS)
def test_the_same_rows_have_no_distance(name: TestName, flights: pd.DataFrame) -> None:
    seats = flights["seats"].to_numpy()[:5_000]  # ties, and every sixth is missing
    effect, p_value = measure(name, numbers(seats, seats))
    assert effect == pytest.approx(0.0, abs=1e-9)
    assert p_value > 0.99


@pytest.mark.parametrize("name", OF_CATEGORIES)
def test_the_same_categories_have_no_distance(name: TestName, flights: pd.DataFrame) -> None:
    carriers = [*flights["carrier"][:5_000], None]
    assert measure(name, categories(carriers, carriers)).effect == pytest.approx(0.0, abs=1e-9)


@pytest.mark.parametrize("name", OF_VALUES)
def test_a_warmer_season_is_seen(name: TestName, flights: pd.DataFrame) -> None:
    winter = flights["temp"][:20_000].to_numpy()
    summer = flights["temp"][150_000:170_000].to_numpy()
    effect, p_value = measure(name, numbers(winter, summer))
    assert effect > 0.5
    assert p_value < 1e-12


@pytest.mark.parametrize("name", OF_NUMBERS)
def test_ten_times_the_rows_of_the_same_shares_have_the_same_effect(name: TestName) -> None:
    bins, reference, window = numbers(np.arange(4_000) % 97, np.arange(3_000) % 89)
    once = measure(name, (bins, reference, window))
    tenfold = measure(name, (bins, 10 * reference, 10 * window))
    assert tenfold.effect == pytest.approx(once.effect, rel=0.01, abs=1e-12)
    assert tenfold.p_value <= once.p_value


@pytest.mark.parametrize("name", ALL)
def test_an_empty_side_says_nothing(name: TestName) -> None:
    counted = numbers(range(100), range(100))
    if name not in OF_NUMBERS:
        counted = categories(["a", "b"], ["a", "b"])
    bins, reference, window = counted
    nothing = np.zeros_like(reference)
    for sides in ((nothing, window), (reference, nothing), (nothing, nothing)):
        assert measure(name, (bins, *sides)) == (0.0, 1.0)


@pytest.mark.parametrize("name", OF_NUMBERS)
@pytest.mark.parametrize(
    ("reference", "window"),
    [
        ([np.nan] * 600, [np.nan] * 600),
        ([5.0] * 600, [np.inf] * 600),
        ([np.inf, -np.inf] * 300, [np.inf] * 600),
        ([1e308, -1e308] * 300, [1e308] * 600),
        ([5e-324] * 600, [0.0] * 600),
        ([0.0] * 600, [0.0] * 600),
        ([1.0, np.nan] * 300, [2.0] * 600),
    ],
    ids=["missing", "to infinity", "infinite", "huge", "tiny", "constant", "half missing"],
)
def test_no_value_gives_a_number_that_is_none(
    name: TestName, reference: list[float], window: list[float]
) -> None:
    effect, p_value = measure(name, numbers(reference, window))
    assert effect >= 0.0
    assert np.isfinite(effect)
    assert 0.0 <= p_value <= 1.0


@pytest.mark.parametrize("name", [name for name in OF_VALUES if name != "wasserstein"])
@pytest.mark.parametrize("moved", [4.0, 6.0, np.inf, -np.inf])
def test_a_constant_that_moves_is_far_away(name: TestName, moved: float) -> None:
    effect, p_value = measure(name, numbers([5.0] * 1_000, [moved] * 500))
    assert effect > 0.9
    assert p_value < 1e-12


@pytest.mark.parametrize("name", OF_CATEGORIES)
def test_a_new_category_is_seen(name: TestName) -> None:
    old, new = ["a", "b"] * 1_000, ["a", "b"] * 400 + ["new"] * 400
    if name == "missing":
        new = ["a", "b"] * 400 + [None] * 400  # type: ignore[list-item]
    effect, p_value = measure(name, categories(old, new))
    assert effect > TESTS[name].threshold
    assert p_value < 1e-12


@pytest.mark.parametrize("name", OF_CATEGORIES)
@pytest.mark.parametrize("num_rows", [500, 2_000])
def test_the_rarest_category_is_missed_where_it_went_missing(
    name: TestName, num_rows: int, flights: pd.DataFrame
) -> None:
    """Of a long reference few rows are expected to be missing: they were put into one cell with
    the rarest airport, whose flights they were, and a third of all rows went missing unseen."""
    origins = flights["origin"].to_numpy()[:80_000]
    window = [None if each == "LGA" else each for each in origins[-num_rows:]]
    effect, p_value = measure(name, categories(origins, window))
    assert effect > TESTS[name].threshold
    assert p_value < 1e-12


@pytest.mark.parametrize("name", [name for name in OF_CATEGORIES if name != "missing"])
@pytest.mark.parametrize("new", [range(300, 600), range(150)], ids=["others", "half of them"])
def test_many_categories_are_told_apart_in_few_rows(name: TestName, new: range) -> None:
    """Each is rare in 500 rows; all were put into one cell, and nothing was seen."""
    rng = np.random.default_rng(0)
    reference = rng.integers(300, size=80_000).astype(str).tolist()
    window = rng.choice(new, 500).astype(str).tolist()
    effect, p_value = measure(name, categories(reference, window))
    assert effect > TESTS[name].threshold
    assert p_value < 1e-5


@pytest.mark.parametrize("name", [name for name in OF_CATEGORIES if name != "missing"])
@pytest.mark.parametrize(("m", "n"), [(80_000, 500), (80_000, 2_000), (1_000, 1_000)])
def test_rare_categories_make_no_false_alarms(name: TestName, m: int, n: int) -> None:
    rng = np.random.default_rng(2)
    shares = np.append(1.0 / np.arange(1, 301), 0.0005 * 6.0)  # as Zipf has it, then missing
    bins = CategoryBins(name="c", categories=tuple(map(str, range(299))))
    shares /= shares.sum()
    reference, window = (rng.multinomial(size, shares, size=1_500) for size in (m, n))
    pairs = zip(reference, window, strict=True)
    p_values = np.array([measure(name, (bins, *pair)).p_value for pair in pairs])
    for level in (0.2, 0.05, 0.01):
        assert (p_values < level).mean() <= level + 3 * np.sqrt(level * (1 - level) / 1_500)


# Shares of a skewed feature in 24 bins, a fifth of it missing; expected counts of 4 to 60 rows.
_SHARES = np.append(np.geomspace(1.0, 15.0, 25), 50.0) / (np.geomspace(1.0, 15.0, 25).sum() + 50.0)


@pytest.mark.parametrize("name", OF_NUMBERS)
def test_without_drift_small_p_values_are_no_more_frequent_than_they_say(name: TestName) -> None:
    rng = np.random.default_rng(0)
    bins = NumberBins(name="x", edges=tuple(np.geomspace(1.0, 50.0, 24).tolist()))
    reference = rng.multinomial(2_000, _SHARES, size=3_000)
    window = rng.multinomial(500, _SHARES, size=3_000)
    pairs = zip(reference, window, strict=True)
    p_values = np.array([measure(name, (bins, *pair)).p_value for pair in pairs])
    # 3 standard deviations of a share of 3,000.
    for level in (0.2, 0.05, 0.01):
        assert (p_values < level).mean() <= level + 3 * np.sqrt(level * (1 - level) / 3_000)


@pytest.mark.parametrize("name", OF_VALUES)
def test_a_fifth_of_a_standard_deviation_is_found_in_2_000_rows(name: TestName) -> None:
    rng = np.random.default_rng(1)
    found = 0
    for _ in range(20):
        reference, window = rng.normal(size=10_000), rng.normal(0.2, size=2_000)
        found += measure(name, numbers(reference, window)).p_value < 0.001
    assert found >= 19
