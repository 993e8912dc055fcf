"""How figures look: SVG that follows the page, its font, its light or dark colours.

matplotlib is given placeholder colours, which are replaced by CSS variables afterwards; the page
defines those once for each mode. Text stays text, so that it can be read, searched and scaled.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from matplotlib.axes import Axes

INK, MUTED, LINE, PAPER = "#000001", "#000002", "#000003", "#000004"
SERIES = ("#000011", "#000012", "#000013", "#000014", "#000015", "#000016")
HEAT = tuple(f"#0000{index:02x}" for index in range(0x20, 0x28))

_VARIABLES = {
    INK: "ink",
    MUTED: "muted",
    LINE: "line",
    PAPER: "paper",
    **{colour: f"series-{index}" for index, colour in enumerate(SERIES)},
    **{colour: f"heat-{index}" for index, colour in enumerate(HEAT)},
}

_WIDTH_IN = 9.6

_STYLE: dict[str, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "raymlops",
    "font.family": "sans-serif",
    "font.size": 10,
    "text.color": INK,
    "text.parse_math": False,  # a feature may be called "$fare"
    "axes.facecolor": "none",
    "axes.edgecolor": LINE,
    "axes.labelcolor": MUTED,
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
    "grid.color": LINE,
    "grid.linewidth": 0.7,
    "xtick.color": LINE,
    "ytick.color": LINE,
    "xtick.labelcolor": MUTED,
    "ytick.labelcolor": MUTED,
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
    "ytick.major.size": 0,
    "xtick.major.size": 3,
    "lines.linewidth": 1.8,
    "lines.solid_capstyle": "round",
    "legend.frameon": False,
    "legend.fontsize": 9,
    "legend.title_fontsize": 9,
    "legend.labelcolor": INK,
    "figure.facecolor": "none",
}


@contextmanager
def figure(
    name: str, summary: str, *, height_in: float, rows: int = 1, columns: int = 1
) -> Iterator[tuple[list[Axes], io.StringIO]]:
    """A figure and its axes to draw on; leaving the block writes the finished SVG."""
    from matplotlib import rc_context
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    with rc_context(cast(Any, _STYLE)):  # typed as one literal for each of 300 settings
        drawn = Figure(figsize=(_WIDTH_IN, height_in), layout="constrained")
        FigureCanvasSVG(drawn)
        grid = drawn.subplots(rows, columns, squeeze=False, sharex=rows > 1)
        svg = io.StringIO()
        yield list(grid.flat), svg
        text = io.StringIO()
        no_metadata = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        drawn.savefig(text, format="svg", metadata=no_metadata)
    svg.write(_themed(text.getvalue(), name, summary))


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
