"""JSON Schemas of what a signature takes and gives."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from raymlops.data import FREE
from raymlops.models import Field
from raymlops.serve.protocols.datatypes import DTYPES, FLOATS, INTEGERS

Schema = dict[str, Any]

MAX_ROWS = 1000
"""Of the examples that tools make; a server takes as many as its limits on bytes and rows allow."""


def value(field: Field, *, output: bool = False) -> Schema:
    """One row's value: a number, text or flag, nested in as many lists as the field has axes."""
    schema = _scalar(field, output=output)
    for size in reversed(field.shape):
        sizes = {"minItems": 1} if size == FREE else {"minItems": size, "maxItems": size}
        schema = {"type": "array", "items": schema, **sizes}
    return schema


def record(fields: Iterable[Field]) -> Schema:
    """One row; what may be missing need not be named."""
    fields = tuple(fields)
    return {
        "type": "object",
        "properties": {field.name: value(field) for field in fields},
        "required": [field.name for field in fields if not field.nullable],
        "additionalProperties": False,
    }


def answer(fields: Iterable[Field]) -> Schema:
    fields = tuple(fields)
    return {
        "type": "object",
        "properties": {field.name: value(field, output=True) for field in fields},
        "required": [field.name for field in fields],
    }


def rows(of: Schema) -> Schema:
    return {"type": "array", "items": of, "minItems": 1, "maxItems": MAX_ROWS}


def json_body(schema: Schema, example: Any = None) -> dict[str, Any]:
    content: dict[str, Any] = {"schema": schema}
    if example is not None:
        content["example"] = example
    return {"application/json": content}


def replies(schema: Schema, *, described: str, refusals: Iterable[int] = ()) -> Mapping[str, Any]:
    """A 200 with `schema`, and refusals whose body says why."""
    refused = {
        str(status): {"description": _REFUSALS[status], "content": json_body(ERROR)}
        for status in refusals
    }
    return {"200": {"description": described, "content": json_body(schema)}, **refused}


ERROR: Schema = {
    "type": "object",
    "properties": {"error": {"type": "string"}},
    "required": ["error"],
}

_REFUSALS = {
    400: "The request is not what the model takes; the error names the field.",
    403: "A request may not do this.",
    404: "There is no such model, version or label here.",
    413: "The request is larger than the server takes.",
    415: "The body is encoded in a way that is not known.",
    503: "The server is full, or has no version loaded yet; try again.",
    504: "The answer was not there in time.",
}


def _scalar(field: Field, *, output: bool) -> Schema:
    kind = _kind(field)
    schema: Schema = {"type": [kind, "null"] if field.nullable or output else kind}
    low, high = field.low, field.high
    if field.datatype in INTEGERS:
        low = max(_limit(field, "min"), float("-inf") if low is None else low)
        high = min(_limit(field, "max"), float("inf") if high is None else high)
    elif field.datatype == "FP16":
        low, high = -65504.0 if low is None else low, 65504.0 if high is None else high
    if field.classes:
        return {"enum": list(field.classes)}
    if low is not None:
        schema["minimum"] = low
    if high is not None:
        schema["maximum"] = high
    return schema


def _kind(field: Field) -> str:
    if field.datatype in INTEGERS:
        return "integer"
    return "number" if field.datatype in FLOATS else _KINDS[field.datatype]


def _limit(field: Field, which: str) -> int:
    bounds: int = getattr(np.iinfo(DTYPES[field.datatype]), which)
    return bounds


_KINDS = {"BOOL": "boolean", "BYTES": "string"}
