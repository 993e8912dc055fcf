"""How long requests took."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from raymlops.monitor.plots.style import INK, MUTED, SERIES, figure
from raymlops.serve.tap.latency import BOUNDS_S, quantile_s

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def latency_histogram(name: str, counts: Sequence[int], *, summary: str) -> str:
    """Requests by latency on a logarithmic axis, with the median and the 99th percentile."""
    bounds_ms = np.asarray(BOUNDS_S) * 1000.0
    used = np.flatnonzero(counts)
    first, last = int(used[0]), int(used[-1])
    step = bounds_ms[1] / bounds_ms[0]
    edges = np.concatenate([[bounds_ms[0] / step], bounds_ms, [bounds_ms[-1] * step]])
    shares = 100.0 * np.asarray(counts) / sum(counts)
    with figure(name, summary, height_in=2.8) as ((ax,), svg):
        ax.bar(
            edges[first : last + 1],
            shares[first : last + 1],
            width=np.diff(edges)[first : last + 1] * 0.92,
            align="edge",
            color=SERIES[0],
        )
        ax.set_xscale("log")
        ax.set_xlim(edges[max(first - 1, 0)], edges[min(last + 2, len(edges) - 1)])
        ax.set_ylim(0, shares.max() * 1.25)
        ax.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        ax.xaxis.set_minor_formatter(  # names 2 and 5 of each decade
            lambda value, _: f"{value:g}" if f"{value:e}"[0] in "25" else ""
        )
        ax.tick_params(axis="x", which="minor", labelsize=9, labelcolor=MUTED, length=2)
        ax.set(xlabel="milliseconds")
        ax.set_title("Share of requests, %")
        for q, height in ((0.5, 0.98), (0.99, 0.88)):
            _name_quantile(ax, q, quantile_s(counts, q) * 1000.0, height)
    return svg.getvalue()


def milliseconds(seconds: float) -> str:
    """Two digits, or whole milliseconds: 0.12 ms, 4.2 ms, 158 ms."""
    ms = seconds * 1000
    return f"{ms:,.0f} ms" if ms >= 10 else f"{ms:.2g} ms"


def _name_quantile(ax: Axes, q: float, at_ms: float, height: float) -> None:
    ax.axvline(at_ms, color=INK, linewidth=1.0, linestyle=(0, (2, 2)))
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
