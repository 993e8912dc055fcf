"""Rows are told apart by slice, from a replica to the monitor's verdict."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import pytest

from raymlops.data.slices import cells_by, cells_of, parts_of
from raymlops.ledger import JoinPolicy, Labels, Ledger, SlicePerformance
from raymlops.monitor import ConceptPolicy, DriftMonitor, DriftPolicy, WindowPolicy
from raymlops.serve import TapSummary
from raymlops.serve.exchange import runs_of
from tests.serve.conftest import MODEL, World, read_columns
from tests.serve.coroutines import run
from tests.serve.tap.traffic import JULY_2, Monitor, Traffic, finish, make


def sliced(
    world: World, *, told: tuple[str, ...], asked: tuple[str, ...]
) -> list[SlicePerformance]:
    """What a monitor that slices by `asked` finds in what a replica told of slices by `told`."""
    summaries: list[TapSummary] = []

    async def test() -> None:
        traffic, monitor = Traffic(world), Monitor()
        recorder = make(monitor, slice_by=told)
        for start in range(0, 560, 40):
            recorder.note(runs_of([traffic.exchange(slice(start, start + 40), time=JULY_2)]))
        await finish(recorder)
        summaries.extend(monitor.summaries)

    run(test)
    policies = ConceptPolicy(), JoinPolicy()
    monitor = DriftMonitor(
        world.ledger_url, world.store_uri, WindowPolicy(), DriftPolicy(), *policies, asked
    )
    truth = read_columns()[1][:560]
    monitor.observe(*summaries)
    monitor.label(
        [
            Labels(
                request_id=f"r-{number + 1}",
                model=MODEL,
                labels=truth[40 * number : 40 * number + 40].astype(np.int8).tobytes(),
                at=JULY_2,
            )
            for number in range(14)
        ]
    )
    monitor.advance(MODEL, datetime(2013, 8, 1, tzinfo=UTC))
    with Ledger(world.ledger_url) as ledger:
        return ledger.observations.slices(MODEL)


def test_rows_are_told_apart_by_slice_up_to_the_monitors_verdict(world: World) -> None:
    names = ("size", "radius", "absent")
    found = sliced(world, told=names, asked=names)
    truth = read_columns()[1][:560]
    accuracy = {(row.feature, row.part): row for row in found if row.metric == "accuracy"}
    columns = world.rows(0, 560)
    said = world.bundles["1.0.0"].predict(columns)["benign"]
    for part in ("small", "large"):
        inside = columns["size"] == part
        row = accuracy["size", part]
        assert row.num_rows == inside.sum()
        assert row.value == pytest.approx((said == truth)[inside].mean())
        assert row.low < row.value <= row.high
    radius = [row for (feature, _), row in accuracy.items() if feature == "radius"]
    assert len(radius) == 4
    assert sum(row.num_rows for row in radius) == 560
    assert {feature for feature, _ in accuracy} == {"size", "radius"}


@pytest.mark.parametrize("asked", [("radius", "size"), ("size", "texture"), ("size",)])
def test_slices_by_other_features_are_left_out(world: World, asked: tuple[str, ...]) -> None:
    # Those of as many features were taken for theirs: the sizes were shown as radii.
    assert sliced(world, told=("size", "radius"), asked=asked) == []


def test_parts_of_numbers_are_ranges_with_as_many_rows(world: World) -> None:
    profile = world.bundles["1.0.0"].profile
    names = parts_of(profile, "radius")
    assert len(names) == len(profile.reference[profile.cells["radius"]])
    assert names[-1] == "missing"
    assert len(set(names)) == 5
    assert names[0].startswith("below ")
    assert parts_of(profile, "size") == ["small", "large", "other", "missing"]
    assert parts_of(profile, "absent") == []
    found = cells_of(profile, ("texture",), {"texture": np.array([np.nan, 20.0])})
    cells = cells_by(("texture",), found)
    assert cells is not None
    assert parts_of(profile, "texture")[cells[0, 0]] == "missing"
    counts = profile.bins[1].count(np.array([20.0]))
    assert counts[cells[0, 1]] == 1
