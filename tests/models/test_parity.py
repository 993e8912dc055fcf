from __future__ import annotations

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
    with pytest.raises(ParityError, match="row 1 of 3: python gives 0, the original 1; they may"):
        check_parity(one, other, tolerance=0.0, of="python", original="the original")
