"""Requests as clients write them that follow the metadata: read into structs, in one pass.

msgspec checks names and types while it parses, and makes no dictionary for a tensor. Whatever is
not just like that is None here; the long way takes it, or says what is wrong.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from raymlops.data import GroupedColumns
from raymlops.serve.form import Form
from raymlops.serve.protocols.datatypes import FLOATS
from raymlops.serve.protocols.open_inference.fitted import UNREADABLE


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
    except UNREADABLE:
        return None


def read_tensors(tensors: list[PlainTensor], form: Form) -> GroupedColumns | None:
    """The columns of tensors with all names of the signature, its types, and shapes that are flat:
    [rows], or [rows, 1]."""
    if tuple([tensor.name for tensor in tensors]) != form.names:
        by_name = {tensor.name: tensor for tensor in tensors}
        if len(by_name) != len(tensors) or by_name.keys() != form.inputs.keys():
            return None
        tensors = [by_name[name] for name in form.names]
    datatypes = tuple([tensor.datatype for tensor in tensors])
    if datatypes != form.datatypes and not _are_alike(datatypes, form.datatypes):
        return None
    shapes = [tensor.shape for tensor in tensors]
    shape = shapes[0]
    if len(shape) != 1 and (len(shape) != 2 or shape[1] != 1):
        return None
    if shapes.count(shape) != len(shapes):
        return None
    return form.read([tensor.data for tensor in tensors], shape[0])


def _are_alike(given: Sequence[str], wanted: Sequence[str]) -> bool:
    """Whether they differ in the precision of floats alone, which JSON does not have."""
    return all(
        ours == theirs or (ours in FLOATS and theirs in FLOATS)
        for ours, theirs in zip(given, wanted, strict=True)
    )
