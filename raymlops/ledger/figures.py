"""Figures as people read them."""

from __future__ import annotations

import math


def shown_figure(figure: float, decimals: int = 4) -> str:
    """With so many decimals, which suit a loss of probabilities; but with three digits at least,
    since an error may be one of millionths, and with none where it is one of millions.

    0.4925, 0.000316, 1.49e-06, 1,047,294
    """
    size = abs(figure)
    if size == 0.0 or not math.isfinite(figure):
        return f"{figure:.{decimals}f}"
    if size >= 1e15:
        return f"{figure:.3g}"
    if size >= 1e5:
        return f"{figure:,.0f}"
    if size >= 10.0 ** (2 - decimals):
        return f"{figure:.{decimals}f}"
    return f"{figure:.3g}"
