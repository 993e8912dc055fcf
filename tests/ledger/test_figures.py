"""Figures as people read them."""

from __future__ import annotations

import math

import pytest

from raymlops.ledger.figures import shown_figure


@pytest.mark.parametrize(
    ("figure", "decimals", "text"),
    [
        (0.49247, 4, "0.4925"),
        (-0.0312, 3, "-0.0312"),
        (15.9981, 3, "15.998"),
        (0.0, 4, "0.0000"),
        (0.00031623, 4, "0.000316"),
        (1.4893e-6, 4, "1.49e-06"),
        (99_999.5, 4, "99999.5000"),
        (1_047_294.27, 4, "1,047,294"),
        (3.2e20, 4, "3.2e+20"),
        (math.inf, 4, "inf"),
        (math.nan, 3, "nan"),
    ],
)
def test_a_figure_keeps_its_digits_whatever_its_unit(
    figure: float, decimals: int, text: str
) -> None:
    """An RMSE of 1.5e-06 was shown as 0.0000, beside that of a constant, 0.0000."""
    assert shown_figure(figure, decimals) == text
