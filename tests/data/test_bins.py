from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from raymlops.data import CategoryBins, Feature, NumberBins, Profile
from raymlops.data import bins as data_bins
from raymlops.data.bins import bins_of, quantile_bins
from raymlops.demo.flights import load_flights

TINY = 5e-324
VALUES = st.one_of(
    st.sampled_from([0.0, -0.0, 1.0, 1.0, 2.0, np.inf, -np.inf, TINY, -TINY, 1e308, -1e308]),
    st.integers(-3, 3).map(float),
    st.floats(allow_nan=True),
)


def searched(bins: NumberBins, values: np.ndarray) -> np.ndarray:
    """The counts by binary search of every value, which is what the bins mean."""
    cells = np.searchsorted(np.asarray(bins.edges), values, side="right")
    cells[np.isnan(values)] = bins.num_cells - 1
    return np.bincount(cells, minlength=bins.num_cells)


@given(
    st.lists(VALUES, min_size=1, max_size=80),
    st.lists(VALUES, max_size=80),
    st.sampled_from([0, data_bins._MIN_ROUNDED]),
)
def test_counts_are_those_of_a_search_for_every_value(
    reference: list[float], window: list[float], min_rounded: int
) -> None:
    bins = quantile_bins("x", np.array(reference))
    values = np.array(window, dtype=np.float64)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(data_bins, "_MIN_ROUNDED", min_rounded)
        np.testing.assert_array_equal(bins.count(values), searched(bins, values))


@pytest.mark.parametrize(
    "draw",
    [
        lambda rng: rng.standard_cauchy(100_000),
        lambda rng: rng.lognormal(0, 20, 100_000),
        lambda rng: rng.poisson(3, 100_000).astype(float),
        lambda rng: np.where(rng.random(100_000) < 0.3, np.nan, rng.normal(size=100_000)),
        lambda rng: np.where(rng.random(100_000) < 0.3, np.inf, rng.normal(size=100_000)),
        lambda rng: rng.normal(size=100_000) * TINY * 1e3,
        lambda rng: rng.normal(size=100_000) * 1e300,
        lambda rng: np.full(100_000, 7.0),
        lambda rng: 1e9 + rng.normal(size=100_000),
        lambda rng: rng.normal(size=100_000).round(2),
        lambda rng: 1.0 + rng.integers(0, 4, 100_000) * 2.0**-50,
    ],
    ids=[
        "cauchy",
        "lognormal",
        "ties",
        "missing",
        "infinite",
        "denormal",
        "huge",
        "constant",
        "offset",
        "rounded",
        "close",
    ],
)
def test_blocks_add_up_to_a_search_for_every_value(draw) -> None:  # type: ignore[no-untyped-def]
    rng = np.random.default_rng(0)
    bins, values = quantile_bins("x", draw(rng)), draw(rng)
    np.testing.assert_array_equal(bins.count(values), searched(bins, values))
    assert bins.num_cells <= 258


@pytest.mark.parametrize("kind", [np.float32, np.int8, np.int64, np.bool_, object])
def test_a_column_of_any_numeric_type_is_counted_by_its_values(kind: type) -> None:
    values = np.arange(40_000) % 100
    bins = quantile_bins("x", np.arange(50.0))
    column = values.astype(kind)
    np.testing.assert_array_equal(bins.count(column), bins.count(column.astype(np.float64)))


def test_counting_leaves_the_column_as_it_was() -> None:
    values = np.array([3.0, 1.0, np.nan, 2.0])
    quantile_bins("x", values).count(values)
    np.testing.assert_array_equal(values, [3.0, 1.0, np.nan, 2.0])


def test_eight_workers_count_what_one_pass_counts_bit_for_bit() -> None:
    table = load_flights()
    names = ("temp", "precip", "hour", "seats")
    for name in names:
        values = table[name].to_numpy()
        bins = quantile_bins(name, values[:80_000])
        workers = sum(bins.count(values[start::8]) for start in range(8))
        np.testing.assert_array_equal(workers, bins.count(values))
    carriers = table["carrier"].to_numpy(zero_copy_only=False)
    bins = bins_of(Feature(name="carrier", kind="category"), carriers[:1_000])
    workers = sum(bins.count(carriers[start::8]) for start in range(8))
    np.testing.assert_array_equal(workers, bins.count(carriers))


def test_large_tables_are_counted_in_threads_to_the_same_counts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rng = np.random.default_rng(0)
    features = tuple(Feature(name=f"x{number}", kind="number") for number in range(4))
    columns = {feature.name: rng.normal(size=50_000) for feature in features}
    scores = np.zeros(50_000, dtype=np.float32)
    profile = Profile.of(features, columns, scores, label_rate=0.5, log_loss=0.7)
    alone = profile.count(columns, scores)
    monkeypatch.setattr("raymlops.data.profile._MIN_VALUES_A_THREAD", 1_000)
    np.testing.assert_array_equal(profile.count(columns, scores), alone)


def test_counting_takes_a_block_of_memory_whatever_the_rows() -> None:
    bins = quantile_bins("x", np.arange(1_000.0))
    values = np.random.default_rng(0).normal(size=1_000_000)  # 8 MB
    tracemalloc.start()
    bins.count(values)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1_000_000


def test_the_most_frequent_categories_have_cells_the_rest_is_other() -> None:
    values = [f"c{number:04}" for number in range(600) for _ in range(1 + (number < 300))]
    bins = bins_of(Feature(name="c", kind="category"), np.array(values, dtype=object))
    assert isinstance(bins, CategoryBins)
    assert bins.categories == tuple(f"c{number:04}" for number in range(512))
    assert bins.count(np.array(values, dtype=object))[-2:].tolist() == [88, 0]


def test_none_and_nan_are_missing_categories() -> None:
    bins = bins_of(Feature(name="c", kind="category", max_missing=1), np.array(["a"], dtype=object))
    column = np.array(["a", None, float("nan"), np.nan, "b"], dtype=object)
    assert bins.count(column).tolist() == [1, 1, 3]
