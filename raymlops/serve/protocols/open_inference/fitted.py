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

from raymlops.data import GroupedColumns
from raymlops.models import Field
from raymlops.serve.form import Form, bounds_of
from raymlops.serve.protocols.datatypes import FLOATS

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
    else:
        low, high = bounds_of(field)
        if field.datatype in FLOATS:
            kind = Annotated[float, msgspec.Meta(ge=low, le=high)]
        else:
            kind = Annotated[int, msgspec.Meta(ge=math.ceil(low), le=math.floor(high))]
    return kind | None if field.nullable else kind


def _is_told(field: Field) -> bool:
    """Whether there is a number that the field plainly takes: then both its bounds are within 64
    bits with a sign, as msgspec's are."""
    low, high = bounds_of(field)
    return low <= high
