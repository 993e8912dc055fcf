"""Answers in protocols whose bodies hold values alone: who answered is told in headers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson

from raymlops.serve.inference import Result
from raymlops.serve.web import Response


def plain_outputs(result: Result, names: Sequence[str] = ()) -> dict[str, list[Any]]:
    """Each output as JSON has it, a value for each row; NaN is None."""
    return {name: _plain(result.outputs[name]) for name in names or result.form.outputs}


def records(outputs: dict[str, list[Any]]) -> list[dict[str, Any]]:
    return [dict(zip(outputs, row, strict=True)) for row in zip(*outputs.values(), strict=True)]


def answered(request_id: str, result: Result, document: Any) -> Response:
    headers = (
        ("x-request-id", request_id),
        ("x-model-version", result.version),
        ("x-arm", result.arm),
    )
    return Response(200, orjson.dumps(document), headers=headers)


def _plain(values: Any) -> list[Any]:
    if values.dtype.kind != "f":
        listed: list[Any] = values.tolist()
        return listed
    # By way of text, so that 0.1 as float32 is 0.1 and not 0.10000000149011612.
    read: list[Any] = orjson.loads(orjson.dumps(values.copy(), option=orjson.OPT_SERIALIZE_NUMPY))
    return read
