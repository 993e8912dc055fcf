"""A heat map of effects, by feature and window."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from raymlops.monitor.plots.style import HEAT, INK, MUTED, PAPER, figure

_BOUNDS = (0.02, 0.05, 0.1, 0.2, 0.35, 0.5, 0.75)  # lower ends of the shades above the first
_CENTRED: dict[str, Any] = {"ha": "center", "va": "center_baseline"}


@dataclass(frozen=True, kw_only=True)
class HeatColumn:
    """One window of a heat map: the effect of each feature, and which of them drifted."""

    label: str
    effects: Mapping[str, float]
    drifted: Collection[str]


def heat_map(name: str, columns: Sequence[HeatColumn], *, summary: str) -> str:
    """Effects by window (columns) and feature (rows); cells of those that drifted are shaded."""
    from matplotlib.patches import Rectangle

    features = list(dict.fromkeys(feature for column in columns for feature in column.effects))
    num_lines = 1 + max(column.label.count("\n") for column in columns)
    height_in = 0.45 + 0.15 * num_lines + 0.3 * len(features)
    with figure(name, summary, height_in=height_in) as ((ax,), svg):
        for x, column in enumerate(columns):
            for y, feature in enumerate(features):
                if feature not in column.effects:
                    continue
                effect, colour = column.effects[feature], MUTED
                if feature in column.drifted:
                    shade = int(np.searchsorted(_BOUNDS, effect, side="right"))
                    colour = PAPER if shade >= len(HEAT) // 2 else INK
                    cell = Rectangle((x + 0.03, y + 0.06), 0.94, 0.88, color=HEAT[shade], lw=0)
                    ax.add_patch(cell)
                ax.text(x + 0.5, y + 0.5, f"{effect:.2f}", color=colour, **_CENTRED, fontsize=9)
        ax.set(xlim=(0, len(columns)), ylim=(len(features), 0))
        ax.set_xticks(np.arange(len(columns)) + 0.5, [column.label for column in columns])
        ax.set_yticks(np.arange(len(features)) + 0.5, features)
        ax.tick_params(length=0, labelcolor=INK, top=True, labeltop=True, labelbottom=False)
        ax.spines[:].set_visible(False)
        ax.grid(visible=False)
    return svg.getvalue()
