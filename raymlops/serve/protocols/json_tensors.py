"""Tensors written in JSON: `data` flat or nested, in row-major order."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from types import NoneType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from raymlops.data import Column
from raymlops.errors import SignatureError
from raymlops.models import Field
from raymlops.serve.protocols.datatypes import INTEGERS
from raymlops.serve.protocols.documents import is_unicode, shown
from raymlops.serve.protocols.shapes import Shape
from raymlops.serve.protocols.whole_numbers import check_large


def read_json(field: Field, shape: Shape, datatype: str, data: Any) -> Column:
    """The column in `data`, of type and shape, its values not compared with bounds yet.

    Raises:
        SignatureError: what is wrong with the tensor.
    """
    if not isinstance(data, list):
        raise SignatureError(field.name, "has no data")
    flat = _flat(field.name, data, shape)
    if datatype == "BYTES":
        column: Column = _texts(field.name, flat, shape)
    else:
        column = _numbers(field, flat, shape, datatype)
    return column.reshape(shape.of_column)


def _flat(name: str, data: list[Any], shape: Shape) -> list[Any]:
    """The values of `data`, which is flat already or as deep as the shape says."""
    level, flat = 1, data
    while level < len(shape.given) and flat and isinstance(flat[0], list):
        width = shape.given[level]
        if not all(type(row) is list and len(row) == width for row in flat):
            raise SignatureError(name, f"its data is ragged, its shape says {list(shape.given)}")
        flat, level = list(chain.from_iterable(flat)), level + 1
    if len(flat) != shape.size or level not in (1, len(shape.given)):
        raise SignatureError(name, f"has {len(flat)} values, its shape says {list(shape.given)}")
    return flat


def _numbers(field: Field, data: Sequence[Any], shape: Shape, datatype: str) -> NDArray[np.float64]:
    name = field.name
    kinds: set[type] = {bool} if datatype == "BOOL" else {int, float}
    _check_types(name, data, shape, kinds, datatype)
    try:
        column = np.array(data, dtype=np.float64)  # None becomes NaN
    except OverflowError as error:
        raise SignatureError(name, "holds a number beyond the range of FP64") from error
    if datatype in INTEGERS:
        # JSON knows one kind of number: 7.0 is as whole as 7.
        broken = ~np.isnan(column) & (column != np.rint(column))
        _refuse(name, data, shape, broken, f"not {datatype}")
        bounds = np.iinfo(datatype.lower())
        outside = (column < bounds.min) | (column > bounds.max)
        _refuse(name, data, shape, outside, f"beyond the range of {datatype}")
        check_large(field, shape, datatype, data, column)
    return column


def _texts(name: str, data: Sequence[Any], shape: Shape) -> NDArray[np.object_]:
    _check_types(name, data, shape, {str}, "text")
    for index, value in enumerate(data):
        if value is not None and not is_unicode(value):
            raise SignatureError(name, f"{shape.place(index)} is not valid Unicode")
    return np.array(data, dtype=object)


def _check_types(
    name: str, data: Sequence[Any], shape: Shape, kinds: set[type], wanted: str
) -> None:
    if not set(map(type, data)) <= kinds | {NoneType}:
        allowed = (*kinds, NoneType)
        index = next(index for index, value in enumerate(data) if type(value) not in allowed)
        place = f"{shape.place(index)} is "
        raise SignatureError(name, place, shown(data[index]), f", not {wanted}")


def _refuse(
    name: str, data: Sequence[Any], shape: Shape, broken: NDArray[np.bool_], why: str
) -> None:
    if broken.any():
        index = int(np.argmax(broken))
        raise SignatureError(name, f"{shape.place(index)} is ", str(data[index]), f", {why}")
