"""Each drift test beside scipy, on real columns."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from scipy.spatial.distance import jensenshannon
from sklearn.datasets import load_wine

from raymlops.data.bins import CategoryBins
from raymlops.data.drift.cells import table_of
from raymlops.demo.flights import load_flights
from tests.data.drift.counted import categories, measure, numbers

WINE = load_wine(as_frame=True)
FLIGHTS = load_flights().to_pandas()
WINTER, SPRING = FLIGHTS[:40_000], FLIGHTS[100_000:112_000]


@pytest.mark.parametrize("name", WINE.feature_names)
def test_ks_is_a_careful_bound_of_scipys(name: str) -> None:
    column = WINE.data[name].to_numpy()
    reference, window = column[WINE.target == 0], column[WINE.target != 0]
    exact = stats.ks_2samp(reference, window, method="asymp")
    found = measure("ks", numbers(reference, window))
    assert exact.statistic - 1 / len(reference) <= found.effect <= exact.statistic + 1e-12
    assert found.p_value >= 0.9 * exact.pvalue


def test_ks_of_few_values_is_scipys() -> None:
    winter, spring = WINTER["hour"], SPRING["hour"]
    exact = stats.ks_2samp(winter, spring, method="asymp")
    found = measure("ks", numbers(winter, spring))
    assert found.effect == pytest.approx(exact.statistic, abs=1e-12)
    assert found.p_value == pytest.approx(exact.pvalue, rel=0.02)


@pytest.mark.parametrize(("num_rows", "lowest"), [(100, 0.77), (1_000, 0.91)])
def test_ks_lies_a_little_below_scipys_exact_p_value(num_rows: int, lowest: float) -> None:
    """It was said to be an upper bound."""
    values = np.arange(num_rows)
    ratios = []
    for shift in range(1, num_rows):
        found = measure("ks", numbers(values, values + shift))
        if found.p_value > 0.2:  # close to 1 scipy has no exact one
            continue
        exact = stats.ks_2samp(values, values + shift, method="exact")
        assert found.effect == pytest.approx(exact.statistic, abs=1e-12)
        if exact.pvalue < 1e-4:
            break
        ratios.append(found.p_value / exact.pvalue)
    assert min(ratios) == pytest.approx(lowest, abs=0.005)


def test_chi_square_is_scipys() -> None:
    counted = categories(list(WINTER["origin"]), list(SPRING["origin"]))
    expected = stats.chi2_contingency([c[:3] for c in counted[1:]], lambda_="cressie-read")
    assert measure("chi2", counted).p_value == pytest.approx(expected.pvalue, rel=1e-9)


def test_chi_square_of_many_rare_categories_is_as_rare_as_it_says() -> None:
    """By Pearson's statistic a p-value below 0.001 came half as often again as that."""
    rng = np.random.default_rng(1)
    shares = 1 / np.arange(1, 301)
    shares /= shares.sum()
    bins = CategoryBins(name="x", categories=tuple(map(str, range(300))))
    reference = np.append(rng.multinomial(1_000_000, shares), [0, 0])
    windows = np.pad(rng.multinomial(500, shares, size=30_000), [(0, 0), (0, 2)])
    p_values = np.array([measure("chi2", (bins, reference, window)).p_value for window in windows])
    assert np.mean(p_values < 0.05) == pytest.approx(0.05, abs=0.005)
    assert np.sum(p_values < 0.001) <= 36  # 30 and a standard deviation


def test_jensen_shannon_is_scipys_and_its_p_value_that_of_the_g_test() -> None:
    counted = numbers(WINTER["pressure"], SPRING["pressure"])
    table = table_of(*counted, 25.0).whole
    assert table.shape == (2, 11)  # tenths and missing
    found = measure("js", counted)
    assert found.effect == pytest.approx(jensenshannon(*table, base=2), abs=1e-12)
    few = numbers(WINTER["hour"][::20], WINTER["hour"][7::20])
    g_test = stats.chi2_contingency(table_of(*few, 25.0).core, lambda_="log-likelihood")
    assert measure("js", few).p_value == pytest.approx(g_test.pvalue, rel=1e-9)


def test_psi_is_the_sum_of_scipys_relative_entropies() -> None:
    counted = numbers(WINTER["humid"], SPRING["humid"])
    p, q = (row / row.sum() for row in table_of(*counted, 25.0).whole + 0.5)
    found = measure("psi", counted)
    assert found.effect == pytest.approx(stats.entropy(p, q) + stats.entropy(q, p), rel=1e-9)


def test_wasserstein_of_few_values_is_scipys() -> None:
    # From 6 to 20 o'clock; at other hours too few flights depart for a bin of their own.
    winter, spring = (hours[hours.between(6, 20)] for hours in (WINTER["hour"], SPRING["hour"]))
    exact = stats.wasserstein_distance(winter, spring) / winter.std(ddof=0)
    assert measure("wasserstein", numbers(winter, spring)).effect == pytest.approx(exact, rel=1e-9)


@pytest.mark.parametrize("name", ["temp", "humid", "pressure", "wind_speed", "distance"])
def test_wasserstein_of_many_values_is_scipys_within_a_tenth(name: str) -> None:
    winter, spring = WINTER[name].dropna().to_numpy(), SPRING[name].dropna().to_numpy()
    exact = stats.wasserstein_distance(winter, spring) / winter.std()
    found = measure("wasserstein", numbers(winter, spring)).effect
    assert found == pytest.approx(exact, rel=0.1, abs=0.005)


def test_wasserstein_of_a_shift_is_the_shift() -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(size=50_000)
    found = measure("wasserstein", numbers(values, values + 0.1))
    assert found.effect == pytest.approx(0.1, abs=0.005)


def test_a_new_maximum_of_a_long_tail_is_not_carried_over_all_of_it() -> None:
    """One row a hair above the largest of 200,000 lay 14,800 above those a hair below it: of 5,000
    it made an effect of 0.2, for certain, in every fortieth window that was like the reference."""
    rng = np.random.default_rng(0)
    reference, window = (rng.lognormal(0, 2, size) for size in (200_000, 5_000))
    ordinary = measure("wasserstein", numbers(reference, window))
    window[0] = 1.001 * reference.max()
    one_above = measure("wasserstein", numbers(reference, window))
    assert one_above.effect == pytest.approx(ordinary.effect, abs=0.01)
    assert one_above.p_value > 0.05
    many_above = measure("wasserstein", numbers(reference, window * 1e5))
    assert many_above.effect > 100


def test_wasserstein_says_nothing_where_the_reference_had_no_value() -> None:
    bins, _, window = numbers([np.nan] * 1_000, [1.0] * 500)
    assert measure("wasserstein", (bins, window, window)) == (0.0, 1.0)
