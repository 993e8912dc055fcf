from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import false_discovery_control

from raymlops.data.drift import benjamini_hochberg, holm

P_VALUES = st.lists(st.floats(0, 1), min_size=1, max_size=60)


def test_holm_steps_down_from_the_smallest() -> None:
    # Worked by hand: 4 x 0.01, 3 x 0.011 raised to the first, 2 x 0.02 raised, 1 x 0.9.
    assert holm([0.02, 0.01, 0.9, 0.011]) == pytest.approx([0.04, 0.04, 0.9, 0.04])


@given(P_VALUES)
def test_benjamini_hochberg_is_scipys(p_values: list[float]) -> None:
    assert benjamini_hochberg(p_values) == pytest.approx(false_discovery_control(p_values))


@given(P_VALUES)
def test_holm_lies_between_one_test_and_bonferroni(p_values: list[float]) -> None:
    adjusted, raw = holm(p_values), np.array(p_values)
    assert (adjusted >= raw).all()
    assert (adjusted <= np.minimum(1.0, raw * len(raw)) + 1e-15).all()
    assert (benjamini_hochberg(p_values) <= adjusted + 1e-15).all()


def test_no_tests_need_no_correction() -> None:
    assert holm([]).tolist() == benjamini_hochberg([]).tolist() == []
