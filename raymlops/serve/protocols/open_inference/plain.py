"""Requests as clients write them that follow the metadata: read into structs, in one pass.

msgspec checks names and types while it parses, and makes no dictionary for a tensor. Whatever is
not just like that is None here; the long way takes it, or says what is wrong.
"""

from __future__ import annotations

from typing import Any

import msgspec

from raymlops.data import GroupedColumns
from raymlops.serve.form import Form


class PlainTensor(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    """A tensor that has its values in it."""

    name: str
    datatype: str
    shape: list[int]
    data: list[Any]


class PlainRequest(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    """Of `parameters` and `outputs` nothing is known yet."""

    inputs: list[PlainTensor]
    id: str = ""
    parameters: Any = None
    outputs: Any = None


_decode = msgspec.json.Decoder(PlainRequest).decode


def read_request(body: bytes) -> PlainRequest | None:
    try:
        return _decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None


def read_tensors(tensors: list[PlainTensor], form: Form) -> GroupedColumns | None:
    """The columns of tensors in the signature's own order, types and flat shapes."""
    if tuple([tensor.name for tensor in tensors]) != form.names:
        return None
    if tuple([tensor.datatype for tensor in tensors]) != form.datatypes:
        return None
    shapes = [tensor.shape for tensor in tensors]
    shape = shapes[0]
    if len(shape) != 1 or shapes.count(shape) != len(shapes):
        return None
    return form.read([tensor.data for tensor in tensors], shape[0])
