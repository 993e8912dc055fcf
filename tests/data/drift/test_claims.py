"""Small versions of what benchmarks.drift claims, and of the table in docs/monitoring/drift.md."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks import flights_drift
from benchmarks.drift_claims import (
    BINS,
    NO_FLOORS,
    Draw,
    Reference,
    alarms,
    correlated,
    false_alarms,
    false_alarms_over_looks,
    independent,
    power,
    tied,
)
from raymlops.data.drift import DriftPolicy
from raymlops.demo.flights import load_flights
from tests.data.drift.counted import measure, numbers

DOCS = Path(__file__).parents[3] / "docs" / "monitoring" / "drift.md"


@pytest.fixture(scope="module")
def found() -> list[flights_drift.Month]:
    return flights_drift.months(load_flights(), DriftPolicy())


@pytest.mark.parametrize("draw", [independent, tied, correlated])
def test_of_twenty_checks_without_drift_at_most_one_alarms(draw: Draw) -> None:
    # 0.05 and 3 standard deviations of a share of 100.
    assert false_alarms(draw, 1_000, 40 if draw is correlated else 100) <= 0.11


def test_a_model_that_never_drifts_rarely_alarms_in_all_its_looks() -> None:
    assert false_alarms_over_looks(30, 1_000, 6) <= 0.2
    every_look_alpha = NO_FLOORS  # what spending is for
    assert false_alarms_over_looks(30, 1_000, 6, every_look_alpha) >= 0.3


def test_a_tenth_of_a_standard_deviation_in_five_of_fifty_features_is_found() -> None:
    assert power(0.1, 10_000, 20) == 1.0


def test_a_two_hundredth_in_a_million_rows_never_alarms() -> None:
    assert alarms(0.005, 1_000_000, 5) == 0


def test_counts_that_are_drawn_are_distributed_as_those_of_rows() -> None:
    rng = np.random.default_rng(0)
    reference, window = [], []
    for _ in range(150):
        drawn = Reference(rng, 2_000)
        reference.append(measure("ks", (BINS, drawn.counts, drawn.window(rng, 500, 0.1))).effect)
        rows = rng.normal(size=2_000), rng.normal(0.1, size=500)
        window.append(measure("ks", numbers(*rows)).effect)
    spread = np.std(window) / np.sqrt(150)
    assert np.mean(reference) == pytest.approx(np.mean(window), abs=4 * spread)
    assert np.std(reference) == pytest.approx(np.std(window), rel=0.25)


def test_the_reference_is_counted_as_its_rows_would_be() -> None:
    drawn = Reference(np.random.default_rng(0), 1_000)
    bins, counts, _ = numbers(np.arange(1_000.0), [0.0])
    assert drawn.counts.tolist() == counts.tolist()
    assert len(bins.edges) == len(BINS.edges)


def test_the_table_in_the_docs_is_what_the_command_prints(
    found: list[flights_drift.Month],
) -> None:
    assert flights_drift.markdown(found) in DOCS.read_text()


def test_drift_of_the_flights_is_what_is_known_of_their_year(
    found: list[flights_drift.Month],
) -> None:
    months = {each.month: each for each in found}
    effects = {
        month: {row.feature: row.effect for row in each.inputs} for month, each in months.items()
    }
    # The warmest month lies farthest from winter, December nearest.
    assert max(effects, key=lambda month: effects[month]["temp"]) in (7, 8)
    assert min(effects, key=lambda month: effects[month]["temp"]) == 12
    # The label drifts where the share of late flights leaves winter's 22.8 %.
    away = {month for month, each in months.items() if abs(each.label_share - 0.228) > 0.02}
    assert away == {month for month, each in months.items() if each.label.drifted}
    assert {5, 8}.isdisjoint(away)
    # All that is told of one column is told of all together.
    assert all(each.together.p_value < 1e-6 for each in found)
