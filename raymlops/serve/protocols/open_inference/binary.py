"""Binary tensors: raw little-endian values behind the JSON, in the order of the tensors there.

| JSON, Inference-Header-Content-Length bytes | tensor a | tensor b | ...
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from raymlops.data import Column, Columns, GroupedColumns
from raymlops.data.grouped import Values
from raymlops.errors import RequestError, SignatureError
from raymlops.models import Field
from raymlops.serve.form import Form
from raymlops.serve.protocols.datatypes import DTYPES, INTEGERS
from raymlops.serve.protocols.open_inference.texts import read_texts, write_texts
from raymlops.serve.protocols.shapes import Shape
from raymlops.serve.protocols.whole_numbers import check_large


def split_binary(body: bytes, json_length: str) -> tuple[memoryview, memoryview]:
    """JSON and tail of `body`.

    Raises:
        RequestError: 400, the header is no length within the body.
    """
    view = memoryview(body)
    if not (json_length.isascii() and json_length.isdigit() and len(json_length) < 20):
        raise RequestError(
            400, f"Inference-Header-Content-Length is {json_length[:40]!r}, not a number of bytes"
        )
    length = int(json_length)
    if length > len(view):
        raise RequestError(
            400, f"Inference-Header-Content-Length is {length}, the body has {len(view)} bytes"
        )
    return view[:length], view[length:]


def read_binary(field: Field, shape: Shape, datatype: str, data: memoryview) -> Column:
    """The column whose raw values `data` holds, not compared with bounds yet.

    Raises:
        SignatureError: there are more or fewer bytes than the shape says, or a whole number that
            the column cannot hold.
    """
    if datatype == "BYTES":
        texts = read_texts(field.name, data, shape.size)
        return np.array(texts, dtype=object).reshape(shape.of_column)
    dtype = DTYPES[datatype]
    if len(data) != shape.size * dtype.itemsize:
        raise SignatureError(
            field.name,
            f"has {len(data)} bytes, {datatype} of shape {list(shape.given)} has "
            f"{shape.size * dtype.itemsize}",
        )
    if datatype == "BOOL" and data and max(data) > 1:
        raise SignatureError(field.name, "holds the byte ", str(max(data)), "; BOOL is 0 or 1")
    values: NDArray[Any] = np.frombuffer(data, dtype)
    column = values.astype(np.float64, copy=False)
    if datatype in INTEGERS:
        check_large(field, shape, datatype, values, column)
    return column.reshape(shape.of_column)


def read_plain(form: Form, parts: Sequence[bytes | memoryview], num_rows: int) -> Columns | None:
    """Checked columns of flat inputs, given in the form's order and datatypes as raw values.

    None when anything about them is not plainly right: the long way finds out what.
    """
    found: list[Values] = []
    for group in form.groups:
        picked = group.pick(parts)
        if group.datatype == "BYTES":
            found.append(
                [
                    text
                    for name, part in zip(group.names, picked, strict=True)
                    for text in read_texts(name, memoryview(part), num_rows)
                ]
            )
            continue
        if group.datatype is None or group.datatype == "BOOL":
            return None
        dtype = DTYPES[group.datatype]
        if set(map(len, picked)) != {num_rows * dtype.itemsize}:
            return None
        values: NDArray[Any] = np.frombuffer(b"".join(picked), dtype)
        if num_rows == 1 and group.takes(row := values.tolist()):
            found.append(row)
            continue
        matrix = values.reshape(-1, num_rows).astype(np.float64, copy=False)
        if not group.fits(matrix):
            return None
        found.append(matrix)
    return GroupedColumns(form.layout, found, num_rows)


def write_binary(values: NDArray[Any], datatype: str) -> bytes:
    """Raw row-major values of `datatype`."""
    if datatype == "BYTES":
        return write_texts(values.ravel().tolist())
    return values.astype(DTYPES[datatype], copy=False).tobytes()
