"""Requests of one row that are just what a signature says: checked while they are parsed.

msgspec is told all of the signature, names and datatypes as literals and bounds as constraints, so
that no value is looked at a second time. Whatever differs in any way is None here; `plain` takes
what is written in another order or has more rows.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Annotated, Any, Literal, Protocol

import msgspec
import numpy as np

from raymlops.data import GroupedColumns
from raymlops.models import Field
from raymlops.serve.form import Form, bounds_of
from raymlops.serve.protocols.datatypes import FLOATS, INTEGERS

UNREADABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
"""What msgspec raises for a body that is not what it was told to read."""


class Envelope(Protocol):
    """What a request says beside its tensors."""

    id: str
    parameters: Any
    outputs: Any


class FittedReader:
    """Reads one row of `form`, which must be flat."""

    def __init__(self, form: Form) -> None:
        tensors = [_tensor_type(field) for field in form.inputs.values()]
        request = msgspec.defstruct(
            "FittedRequest",
            [
                ("inputs", tuple[tuple(tensors)]),  # type: ignore[misc]
                ("id", str, ""),
                ("parameters", Any, None),
                ("outputs", Any, None),
            ],
            gc=False,
            forbid_unknown_fields=True,
        )
        self._decode = msgspec.json.Decoder(request).decode
        self._layout = form.layout
        self._picks = [group.pick for group in form.groups]

    def read(self, body: bytes) -> tuple[Envelope, GroupedColumns] | None:
        try:
            request: Any = self._decode(body)
        except UNREADABLE:
            return None
        row = [tensor.data[0] for tensor in request.inputs]
        return request, GroupedColumns(self._layout, [pick(row) for pick in self._picks], 1)


@lru_cache(maxsize=64)
def fitted_reader(form: Form) -> FittedReader | None:
    """None where msgspec cannot be told what the signature says."""
    if not form.is_flat or not form.inputs or not all(map(_is_told, form.inputs.values())):
        return None
    return FittedReader(form)


def _tensor_type(field: Field) -> type:
    alike = FLOATS if field.datatype in FLOATS else (field.datatype,)
    return msgspec.defstruct(
        f"Fitted_{field.datatype}",
        [
            ("name", Literal[field.name]),
            ("datatype", Literal[tuple(alike)]),
            ("shape", tuple[Literal[1]]),
            ("data", tuple[_value_type(field)]),  # type: ignore[misc]
        ],
        gc=False,
        forbid_unknown_fields=True,
    )


def _value_type(field: Field) -> Any:
    kind: Any
    if field.datatype == "BYTES":
        kind = str
    elif field.datatype == "BOOL":
        kind = bool
    elif field.datatype in FLOATS:
        low, high = bounds_of(field)
        kind = Annotated[float, msgspec.Meta(ge=low, le=high)]
    else:
        least, largest = _whole_bounds(field)
        kind = Annotated[int, msgspec.Meta(ge=least, le=largest)]
    return kind | None if field.nullable else kind


def _whole_bounds(field: Field) -> tuple[int, int]:
    """The least and the largest whole number the field takes."""
    info, (low, high) = np.iinfo(field.datatype.lower()), bounds_of(field)
    return max(math.ceil(low), int(info.min)), min(math.floor(high), int(info.max))


def _is_told(field: Field) -> bool:
    """Whether the field's bounds are within 64 bits with a sign, as msgspec's are."""
    return field.datatype not in INTEGERS or _whole_bounds(field)[1] < 1 << 63
