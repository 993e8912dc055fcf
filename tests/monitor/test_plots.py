from __future__ import annotations

import math
import re
from datetime import UTC, datetime, timedelta

from raymlops.monitor import plots
from raymlops.monitor.plots import curves
from raymlops.serve.tap.latency import NUM_BUCKETS


def _panel(title: str, *curves: plots.Curve) -> plots.Panel:
    return plots.Panel(title=title, curves=curves)


def _curve(label: str, **values: object) -> plots.Curve:
    return plots.Curve(**{"label": label, "x": [1, 2], "y": [0.5, 0.4], "hue": 0, **values})


def test_ids_start_with_the_name_of_the_figure() -> None:
    svg = plots.lines("losses", [_panel("Loss", _curve("1.0.0"))], summary="Losses")
    ids = re.findall(r'\bid="([^"]+)"', svg)
    assert ids
    assert all(name.startswith("losses-") for name in ids)


def test_labels_and_summaries_are_escaped() -> None:
    svg = plots.lines("a", [_panel("<b>", _curve("<i>"), _curve("&"))], summary='"><script>')
    assert "<b>" not in svg
    assert "<i>" not in svg
    assert "<script>" not in svg


def test_dollar_signs_are_no_formula() -> None:
    july = plots.HeatColumn(label="July", effects={"$fare$^": 0.1}, drifted=())
    svg = plots.heat_map("d", [july], summary="Drift")
    assert "$fare$^" in svg


def test_an_undefined_interval_leaves_its_point() -> None:
    curve = _curve("1.0.0", low=[0.4, math.nan], high=[0.6, math.nan])
    svg = plots.lines("p", [_panel("Loss", curve)], summary="Loss")
    assert "nan" not in svg.lower()
    assert svg.count("<use ") >= 2


def test_a_legend_leaves_room_for_its_curves() -> None:
    """Of 25 versions the names took all the room, and the figure fell apart."""
    constant = _curve("constant guess", hue=None)
    panel = _panel("Loss", constant, *(_curve(f"1.{minor}.0", hue=minor) for minor in range(25)))
    svg = plots.lines("losses", [panel, panel], summary="Losses")
    assert re.findall(r">(1\.\d+\.0)</text>", svg) == [f"1.{n}.0" for n in range(15, 25)] * 2
    assert svg.count(">constant guess</text>") == svg.count(">15 older, and</text>") == 2


def test_labels_of_what_happened_rise_only_where_they_are_close() -> None:
    first = datetime(2013, 4, 1, tzinfo=UTC)
    panel = plots.Panel(
        title="Loss",
        curves=(_curve("1.0.0", x=[first, first + timedelta(days=100)]),),
        marks=tuple(
            plots.Mark(at=first + timedelta(days=day), label=str(day))
            for day in (0, 40, 45, 50, 80)
        ),
    )
    heights = curves._label_heights(panel)
    assert heights[0] == heights[1] == heights[4] < heights[2] < heights[3]


def test_counts_are_drawn_from_zero() -> None:
    curve = _curve("1.0.0", x=[1, 2, 3], y=[15, 19, 17])
    texts = [
        plots.lines("n", [plots.Panel(title="n", curves=(curve,), is_count=counts)], summary="n")
        for counts in (True, False)
    ]
    assert [">0</text>" in text for text in texts] == [True, False]
    assert ">17.5</text>" not in texts[0]


def test_what_happened_is_named_above_the_first_panel() -> None:
    july, august = (datetime(2013, month, 1, tzinfo=UTC) for month in (7, 8))
    mark = plots.Mark(at=july, label="release 1.0.1")
    panel = plots.Panel(title="Loss", curves=(_curve("1.0.0", x=[july, august]),), marks=(mark,))
    assert plots.timeline("p", [panel, panel], summary="Loss").count("release 1.0.1") == 1


def test_only_drifted_cells_are_shaded() -> None:
    effects = {"temp": 0.9, "hour": 0.01}
    july = plots.HeatColumn(label="July", effects=effects, drifted={"temp"})
    svg = plots.heat_map("d", [july], summary="Drift")
    assert svg.count("var(--heat-7)") > 0
    assert not re.findall(r"var\(--heat-[0-6]\)", svg)


def test_a_latency_histogram_names_its_median_and_p99() -> None:
    counts = [0] * NUM_BUCKETS
    counts[10], counts[20] = 98, 2
    svg = plots.latency_histogram("l", counts, summary="Latency")
    assert "p50  1 ms" in svg
    assert "p99  10 ms" in svg
