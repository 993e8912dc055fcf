from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from raymlops.errors import ParityError
from raymlops.models.parity import check_parity


@pytest.mark.parametrize("dtype", [np.bool_, np.uint8, np.int64, np.float32])
def test_answers_of_any_type_are_compared(dtype: type) -> None:
    """numpy subtracts no truth values, and 1 from 0 is 255 of unsigned bytes."""
    one, other = np.array([1, 0, 1], dtype), np.array([1, 1, 1], dtype)
    check_parity(one, one, tolerance=0.0, of="python", original="the original")
    check_parity(one, other, tolerance=1.0, of="python", original="the original")
    with pytest.raises(
        ParityError,
        match="1 of 3 rows differ, the most row 1: python gives 0, the original 1; they may",
    ):
        check_parity(one, other, tolerance=0.0, of="python", original="the original")


def _refusal(got: list[Any], wanted: list[Any], tolerance: float = 1e-4) -> str:
    with pytest.raises(ParityError) as error:
        check_parity(
            np.array(got), np.array(wanted), tolerance=tolerance, of="onnx", original="the original"
        )
    return str(error.value)


def test_a_refusal_says_which_output_of_which_row_and_what_was_allowed() -> None:
    # It said neither which of three probabilities nor how many rows, and of 2000 that 1e-4 of it
    # may be missed.
    assert _refusal([[0.2, 0.8], [0.5, 0.5], [1.0, 0.0]], [[0.2, 0.8], [0.4, 0.6], [0.7, 0.3]]) == (
        "2 of 3 rows differ, the most row 2, output 0 of 2: onnx gives 1, the original 0.7; they "
        "may differ by 0.0001"
    )
    assert "onnx gives 2001, the original 2000; they may differ by 0.2" in _refusal([2001], [2000])


def test_values_that_differ_do_not_look_alike() -> None:
    message = "onnx gives 0.12345678, the original 0.12345679; they may differ by 1e-09"
    assert message in _refusal([0.12345678], [0.12345679], tolerance=1e-9)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_answers_that_are_no_numbers_are_refused_though_they_are_the_same(value: float) -> None:
    message = f"onnx gives {value}, the original {value}; answers have to be finite"
    assert message in _refusal([value], [value])


def test_answers_of_a_small_unit_are_held_to_the_largest_of_them() -> None:
    """1e-4 was allowed of numbers of a millionth: weights that were all zero gave them again."""
    wanted = [9.66e-7, 5.95e-7, -7.2e-7]
    assert "3 of 3 rows differ" in _refusal([0.0, 0.0, 0.0], wanted)
    near = np.array(wanted) + 9e-11
    check_parity(near, np.array(wanted), tolerance=1e-4, of="onnx", original="the original")
    nothing = np.zeros(3)
    check_parity(nothing + 1e-5, nothing, tolerance=1e-4, of="onnx", original="the original")
