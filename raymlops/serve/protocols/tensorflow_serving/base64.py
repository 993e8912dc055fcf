"""Texts that JSON holds as {"b64": "..."}, TensorFlow Serving's way to write bytes."""

from __future__ import annotations

import base64
import binascii
from typing import Any

from raymlops.errors import SignatureError
from raymlops.models import Field


def unwrap(field: Field, values: list[Any]) -> list[Any]:
    """`values`, those of texts decoded where they are wrapped.

    Raises:
        SignatureError: one is not base64, or what it holds is not UTF-8.
    """
    if field.datatype != "BYTES":
        return values
    depth = max(1, len(field.shape))  # a single text may lie in a list of its own
    return [_decoded(field.name, row, value, depth) for row, value in enumerate(values)]


def _decoded(name: str, row: int, value: Any, depth: int) -> Any:
    """Lists deeper than the field has them stay as they are: whoever reads the values says so."""
    if isinstance(value, list) and depth:
        return [_decoded(name, row, each, depth - 1) for each in value]
    if not isinstance(value, dict) or value.keys() != {"b64"}:
        return value
    try:
        return base64.b64decode(value["b64"], validate=True).decode()
    except (TypeError, ValueError, binascii.Error) as error:
        problem = f"row {row} holds b64 that is no UTF-8 text: "
        raise SignatureError(name, problem, str(error)) from error
