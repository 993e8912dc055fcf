"""Curves over time or anything else, panel by panel."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from raymlops.monitor.plots.style import MUTED, PAPER, SERIES, figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_NUM_HEIGHTS = 3  # of the labels of marks, one above the other
_MAX_NAMED = 10  # curves beside a panel: of more the legend leaves no room to draw
_LABEL_RATIO = 0.15  # what such a label takes of the width, about


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


def lines(name: str, panels: Sequence[Panel], *, summary: str) -> str:
    """Panels side by side."""
    with figure(name, summary, height_in=3.3, columns=len(panels)) as (axes, svg):
        for ax, panel in zip(axes, panels, strict=True):
            _draw_curves(ax, panel)
    return svg.getvalue()


def timeline(name: str, panels: Sequence[Panel], *, summary: str) -> str:
    """Panels one above the other over one time axis, with the marks through all of them."""
    height_in = 1.0 + 2.5 * len(panels)
    with figure(name, summary, height_in=height_in, rows=len(panels)) as (axes, svg):
        for ax, panel in zip(axes, panels, strict=True):
            _draw_curves(ax, panel)
            for mark in panel.marks:
                at: Any = mark.at  # matplotlib converts dates, its types do not say so
                ax.axvline(at, color=MUTED, linewidth=0.9, linestyle=(0, (2, 2)), zorder=1)
        for mark, height in zip(panels[0].marks, _label_heights(panels[0]), strict=True):
            _name_mark(axes[0], mark, height)
        for ax in axes[:-1]:
            ax.tick_params(labelbottom=False)
        _label_dates(axes[-1])
    return svg.getvalue()


def _draw_curves(ax: Axes, panel: Panel) -> None:
    for curve in panel.curves:
        colour = MUTED if curve.hue is None else SERIES[curve.hue % len(SERIES)]
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
            markerfacecolor=PAPER if curve.hollow else colour,
            zorder=2 if curve.hue is None else 3,
        )
    ax.set_title(panel.title)
    ax.set_xlabel(panel.x_label)
    ax.margins(x=0.03, y=0.12)
    if panel.is_count:
        ax.set_ylim(bottom=0)
        ax.locator_params(axis="y", integer=True)
    if panel.has_legend:
        _name_curves(ax, panel)


def _name_curves(ax: Axes, panel: Panel) -> None:
    """Names those drawn for reference and, as the newest are the last, the last of the others."""
    named = [curve.hue is None for curve in panel.curves]
    others = [index for index, is_named in enumerate(named) if not is_named]
    for index in others[-_MAX_NAMED:]:
        named[index] = True
    handles = [each for each, is_named in zip(ax.containers, named, strict=True) if is_named]
    left = named.count(False)
    ax.legend(
        handles=handles,
        title=f"{left} older, and" if left else None,
        loc="upper left",
        bbox_to_anchor=(1.01, 1.02),
        handlelength=1.8,
        alignment="left",
    )


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
        color=MUTED,
        ha="left",
        va="top",
        xytext=(3, 0),
        textcoords="offset points",
        annotation_clip=False,
    )


def _label_dates(ax: Axes) -> None:
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter

    locator = AutoDateLocator(minticks=4, maxticks=12)  # type: ignore[no-untyped-call] # theirs
    ax.xaxis.set_major_locator(locator)
    ax.xaxis.set_major_formatter(ConciseDateFormatter(locator))  # type: ignore[no-untyped-call] # theirs
