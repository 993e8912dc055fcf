"""Whole numbers beyond 2^53: a column holds doubles, and few of these are such numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from raymlops.errors import SignatureError
from raymlops.models import Field
from raymlops.serve.protocols.datatypes import INTEGERS
from raymlops.serve.protocols.shapes import Shape

_EVERY_WHOLE_UNTIL = 2.0**53


def check_large(
    field: Field,
    shape: Shape,
    datatype: str,
    given: Sequence[Any] | NDArray[Any],
    column: NDArray[np.float64],
) -> None:
    """Returns quietly when the large ones of what was `given` are within `datatype`, and just what
    the flat `column` holds where the field takes whole numbers alone.

    Raises:
        SignatureError: names the first that is not.
    """
    bounds = np.iinfo(datatype.lower())
    for index in np.flatnonzero(np.abs(column) >= _EVERY_WHOLE_UNTIL).tolist():
        value, held = int(given[index]), int(column[index])
        if not bounds.min <= value <= bounds.max:
            raise SignatureError(
                field.name,
                f"{shape.place(index)} is ",
                str(value),
                f", beyond the range of {datatype}",
            )
        if field.datatype in INTEGERS and value != held:
            raise SignatureError(
                field.name,
                f"{shape.place(index)} is a whole number that no double holds: ",
                f"{value}, the nearest is {held}",
            )
