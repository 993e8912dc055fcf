"""Figures of the report, as SVG that follows the page: its font, its light or dark colours.

matplotlib is given placeholder colours, which are replaced by CSS variables afterwards; the page
defines those once for each mode. Text stays text, so that it can be read, searched and scaled.
"""

from __future__ import annotations

import io
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from raymlops.serve.tap.latency import BOUNDS_S, quantile_s

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_INK, _MUTED, _LINE, _PAPER = "#000001", "#000002", "#000003", "#000004"
_SERIES = ("#000011", "#000012", "#000013", "#000014", "#000015", "#000016")
_HEAT = tuple(f"#0000{index:02x}" for index in range(0x20, 0x28))

_VARIABLES = {
    _INK: "ink",
    _MUTED: "muted",
    _LINE: "line",
    _PAPER: "paper",
    **{colour: f"series-{index}" for index, colour in enumerate(_SERIES)},
    **{colour: f"heat-{index}" for index, colour in enumerate(_HEAT)},
}

_WIDTH_IN = 9.6
_NUM_HEIGHTS = 3  # of the labels of marks, one above the other
_LABEL_RATIO = 0.15  # what such a label takes of the width, about
_HEAT_BOUNDS = (0.02, 0.05, 0.1, 0.2, 0.35, 0.5, 0.75)  # lower ends of the shades above the first

_CENTRED: dict[str, Any] = {"ha": "center", "va": "center_baseline"}

_STYLE: dict[str, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "raymlops",
    "font.family": "sans-serif",
    "font.size": 10,
    "text.color": _INK,
    "text.parse_math": False,  # a feature may be called "$fare"
    "axes.facecolor": "none",
    "axes.edgecolor": _LINE,
    "axes.labelcolor": _MUTED,
    "axes.labelsize": 9.5,
    "axes.titlesize": 10.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlepad": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "grid.color": _LINE,
    "grid.linewidth": 0.7,
    "xtick.color": _LINE,
    "ytick.color": _LINE,
    "xtick.labelcolor": _MUTED,
    "ytick.labelcolor": _MUTED,
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
    "ytick.major.size": 0,
    "xtick.major.size": 3,
    "lines.linewidth": 1.8,
    "lines.solid_capstyle": "round",
    "legend.frameon": False,
    "legend.fontsize": 9,
    "legend.labelcolor": _INK,
    "figure.facecolor": "none",
}


@dataclass(frozen=True, kw_only=True)
class Curve:
    """A line of points; `low` and `high` are drawn as intervals.

    `hue` picks the colour, so that a thing keeps its own in every panel; without one the line is
    a reference, grey and dashed. `hollow` points set an arm on trial apart from the champion.
    """

    label: str
    x: Sequence[Any]
    y: Sequence[float]
    low: Sequence[float] = ()
    high: Sequence[float] = ()
    hue: int | None = None
    hollow: bool = False


@dataclass(frozen=True, kw_only=True)
class Mark:
    """Something that happened at a time, drawn as a labelled vertical line."""

    at: datetime
    label: str


@dataclass(frozen=True, kw_only=True)
class Panel:
    """One set of axes: its title says what is drawn, in which unit."""

    title: str
    curves: tuple[Curve, ...]
    x_label: str = ""
    marks: tuple[Mark, ...] = ()
    has_legend: bool = True
    is_count: bool = False
    """Whole numbers, drawn from 0 on."""


@dataclass(frozen=True, kw_only=True)
class HeatColumn:
    """One window of a heat map: the effect of each feature, and which of them drifted."""

    label: str
    effects: Mapping[str, float]
    drifted: Collection[str]


def lines(name: str, panels: Sequence[Panel], *, summary: str) -> str:
    """Panels side by side."""
    with _figure(name, summary, height_in=3.3, columns=len(panels)) as (axes, svg):
        for ax, panel in zip(axes, panels, strict=True):
            _draw_curves(ax, panel)
    return svg.getvalue()


def timeline(name: str, panels: Sequence[Panel], *, summary: str) -> str:
    """Panels one above the other over one time axis, with the marks through all of them."""
    height_in = 1.0 + 2.5 * len(panels)
    with _figure(name, summary, height_in=height_in, rows=len(panels)) as (axes, svg):
        for ax, panel in zip(axes, panels, strict=True):
            _draw_curves(ax, panel)
            for mark in panel.marks:
                at: Any = mark.at  # matplotlib converts dates, its types do not say so
                ax.axvline(at, color=_MUTED, linewidth=0.9, linestyle=(0, (2, 2)), zorder=1)
        for mark, height in zip(panels[0].marks, _label_heights(panels[0]), strict=True):
            _name_mark(axes[0], mark, height)
        for ax in axes[:-1]:
            ax.tick_params(labelbottom=False)
        _label_dates(axes[-1])
    return svg.getvalue()


def heat_map(name: str, columns: Sequence[HeatColumn], *, summary: str) -> str:
    """Effects by window (columns) and feature (rows); cells of those that drifted are shaded."""
    from matplotlib.patches import Rectangle

    features = list(dict.fromkeys(feature for column in columns for feature in column.effects))
    num_lines = 1 + max(column.label.count("\n") for column in columns)
    height_in = 0.45 + 0.15 * num_lines + 0.3 * len(features)
    with _figure(name, summary, height_in=height_in) as ((ax,), svg):
        for x, column in enumerate(columns):
            for y, feature in enumerate(features):
                if feature not in column.effects:
                    continue
                effect, colour = column.effects[feature], _MUTED
                if feature in column.drifted:
                    shade = int(np.searchsorted(_HEAT_BOUNDS, effect, side="right"))
                    colour = _PAPER if shade >= len(_HEAT) // 2 else _INK
                    cell = Rectangle((x + 0.03, y + 0.06), 0.94, 0.88, color=_HEAT[shade], lw=0)
                    ax.add_patch(cell)
                ax.text(x + 0.5, y + 0.5, f"{effect:.2f}", color=colour, **_CENTRED, fontsize=9)
        ax.set(xlim=(0, len(columns)), ylim=(len(features), 0))
        ax.set_xticks(np.arange(len(columns)) + 0.5, [column.label for column in columns])
        ax.set_yticks(np.arange(len(features)) + 0.5, features)
        ax.tick_params(length=0, labelcolor=_INK, top=True, labeltop=True, labelbottom=False)
        ax.spines[:].set_visible(False)
        ax.grid(visible=False)
    return svg.getvalue()


def latency_histogram(name: str, counts: Sequence[int], *, summary: str) -> str:
    """Requests by latency on a logarithmic axis, with the median and the 99th percentile."""
    bounds_ms = np.asarray(BOUNDS_S) * 1000.0
    used = np.flatnonzero(counts)
    first, last = int(used[0]), int(used[-1])
    step = bounds_ms[1] / bounds_ms[0]
    edges = np.concatenate([[bounds_ms[0] / step], bounds_ms, [bounds_ms[-1] * step]])
    shares = 100.0 * np.asarray(counts) / sum(counts)
    with _figure(name, summary, height_in=2.8) as ((ax,), svg):
        ax.bar(
            edges[first : last + 1],
            shares[first : last + 1],
            width=np.diff(edges)[first : last + 1] * 0.92,
            align="edge",
            color=_SERIES[0],
        )
        ax.set_xscale("log")
        ax.set_xlim(edges[max(first - 1, 0)], edges[min(last + 2, len(edges) - 1)])
        ax.set_ylim(0, shares.max() * 1.25)
        ax.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        ax.xaxis.set_minor_formatter(  # names 2 and 5 of each decade
            lambda value, _: f"{value:g}" if f"{value:e}"[0] in "25" else ""
        )
        ax.tick_params(axis="x", which="minor", labelsize=9, labelcolor=_MUTED, length=2)
        ax.set(xlabel="milliseconds")
        ax.set_title("Share of requests, %")
        for q, height in ((0.5, 0.98), (0.99, 0.88)):
            _name_quantile(ax, q, quantile_s(counts, q) * 1000.0, height)
    return svg.getvalue()


@contextmanager
def _figure(
    name: str, summary: str, *, height_in: float, rows: int = 1, columns: int = 1
) -> Iterator[tuple[list[Axes], io.StringIO]]:
    """A figure and its axes to draw on; leaving the block writes the finished SVG."""
    from matplotlib import rc_context
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    with rc_context(cast(Any, _STYLE)):  # typed as one literal for each of 300 settings
        figure = Figure(figsize=(_WIDTH_IN, height_in), layout="constrained")
        FigureCanvasSVG(figure)
        grid = figure.subplots(rows, columns, squeeze=False, sharex=rows > 1)
        svg = io.StringIO()
        yield list(grid.flat), svg
        drawn = io.StringIO()
        no_metadata = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        figure.savefig(drawn, format="svg", metadata=no_metadata)
    svg.write(_themed(drawn.getvalue(), name, summary))


def _themed(svg: str, name: str, summary: str) -> str:
    """The bare <svg> element with CSS variables for colours, and ids that start with `name`."""
    from markupsafe import escape

    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'\b(id="|url\(#|href="#)', rf"\1{name}-", svg)
    for colour, variable in _VARIABLES.items():
        svg = svg.replace(colour, f"var(--{variable})")
    size = re.search(r'width="([\d.]+)pt" height="([\d.]+)pt" ?', svg)
    assert size is not None, "matplotlib writes the size of the figure in points"
    return svg.replace(size[0], "", 1).replace(
        "<svg", f'<svg role="img" aria-label="{escape(summary)}"', 1
    )


def _draw_curves(ax: Axes, panel: Panel) -> None:
    for curve in panel.curves:
        colour = _MUTED if curve.hue is None else _SERIES[curve.hue % len(_SERIES)]
        ax.errorbar(
            curve.x,
            curve.y,
            yerr=_spread(curve),
            label=curve.label,
            color=colour,
            linestyle=_line_style(curve),
            linewidth=1.4 if curve.hue is None else 1.8,
            elinewidth=1.4,
            marker="o" if curve.low else "",
            markersize=5,
            markerfacecolor=_PAPER if curve.hollow else colour,
            zorder=2 if curve.hue is None else 3,
        )
    ax.set_title(panel.title)
    ax.set_xlabel(panel.x_label)
    ax.margins(x=0.03, y=0.12)
    if panel.is_count:
        ax.set_ylim(bottom=0)
        ax.locator_params(axis="y", integer=True)
    if panel.has_legend:
        ax.legend(loc="upper left", bbox_to_anchor=(1.01, 1.02), handlelength=1.8)


def _line_style(curve: Curve) -> Any:
    """Dashes for a reference, dots for an arm on trial whose points do not tell it apart."""
    if curve.hue is None:
        return (0, (4, 2))
    return (0, (1, 1.5)) if curve.hollow and not curve.low else "solid"


def _spread(curve: Curve) -> NDArray[np.float64] | None:
    """Lengths of the error bars down and up, [2, points]; an undefined one is not drawn."""
    if not curve.low:
        return None
    y = np.asarray(curve.y)
    lengths = np.stack([y - np.asarray(curve.low), np.asarray(curve.high) - y])
    return np.asarray(np.nan_to_num(np.maximum(lengths, 0.0)))


def _label_heights(panel: Panel) -> list[float]:
    """Heights of labels above the title: the lowest of three where no neighbour is in the way."""
    marks = [mark.at for mark in panel.marks]
    times = [*marks, *(time for curve in panel.curves for time in curve.x)]
    if not marks:
        return []
    width = (max(times) - min(times)) * _LABEL_RATIO
    ends: list[datetime | None] = [None] * _NUM_HEIGHTS
    heights: list[float] = []
    for mark in marks:
        free = [level for level, end in enumerate(ends) if end is None or end <= mark]
        level = free[0] if free else len(heights) % _NUM_HEIGHTS
        ends[level] = mark + width
        heights.append(1.20 + 0.07 * level)
    return heights


def _name_mark(ax: Axes, mark: Mark, height: float) -> None:
    ax.annotate(
        mark.label,
        (mark.at, height),
        xycoords=("data", "axes fraction"),
        fontsize=8.5,
        color=_MUTED,
        ha="left",
        va="top",
        xytext=(3, 0),
        textcoords="offset points",
        annotation_clip=False,
    )


def milliseconds(seconds: float) -> str:
    """Two digits, or whole milliseconds: 0.12 ms, 4.2 ms, 158 ms."""
    ms = seconds * 1000
    return f"{ms:,.0f} ms" if ms >= 10 else f"{ms:.2g} ms"


def _name_quantile(ax: Axes, q: float, at_ms: float, height: float) -> None:
    ax.axvline(at_ms, color=_INK, linewidth=1.0, linestyle=(0, (2, 2)))
    ax.annotate(
        f"p{q * 100:g}  {milliseconds(at_ms / 1000)}",
        (at_ms, height),
        xycoords=("data", "axes fraction"),
        fontsize=9,
        fontweight="bold",
        va="top",
        xytext=(4, 0),
        textcoords="offset points",
    )


def _label_dates(ax: Axes) -> None:
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter

    locator = AutoDateLocator(minticks=4, maxticks=12)  # type: ignore[no-untyped-call] # theirs
    ax.xaxis.set_major_locator(locator)
    ax.xaxis.set_major_formatter(ConciseDateFormatter(locator))  # type: ignore[no-untyped-call] # theirs
