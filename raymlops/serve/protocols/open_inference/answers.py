"""Answers by the Open Inference Protocol: JSON, and binary tensors where they were asked for."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import orjson
from numpy.typing import NDArray

from raymlops.models import Field
from raymlops.serve.inference import Result
from raymlops.serve.protocols.open_inference.binary import write_binary
from raymlops.serve.web import Response

_BINARY_TYPE = "application/octet-stream"


class Wanted(NamedTuple):
    """The outputs asked for, all when `names` is empty, and which of them in binary."""

    names: tuple[str, ...]
    binary: frozenset[str]
    every_binary: bool

    def is_binary(self, name: str) -> bool:
        return name in self.binary if self.names else self.every_binary


def encode_answer(request_id: str, result: Result, wanted: Wanted) -> Response:
    """NaN becomes null in JSON."""
    fields, outputs = result.form.outputs, result.outputs
    names = wanted.names or fields
    if not wanted.binary and not wanted.every_binary:
        tensors = [json_tensor(fields[name], outputs[name]) for name in names]
        return Response(200, _dumps(request_id, result, tensors))
    tensors, parts = [], []
    for name in names:
        field, values = fields[name], outputs[name]
        if wanted.is_binary(name):
            parts.append(write_binary(values, field.datatype))
            tensors.append(_binary_tensor(field, values, len(parts[-1])))
        else:
            tensors.append(json_tensor(field, values))
    head = _dumps(request_id, result, tensors)
    length = ("inference-header-content-length", str(len(head)))
    return Response(200, b"".join((head, *parts)), _BINARY_TYPE, (length,))


def json_tensor(field: Field, values: NDArray[Any]) -> dict[str, Any]:
    return {
        "name": field.name,
        "datatype": field.datatype,
        "shape": values.shape,
        "data": writable(values),
    }


def writable(values: NDArray[Any]) -> Any:
    """`values` as orjson writes them."""
    if values.dtype.kind in "fiub":
        return values if values.flags.c_contiguous else np.ascontiguousarray(values)
    return values.tolist()


def _binary_tensor(field: Field, values: NDArray[Any], size: int) -> dict[str, Any]:
    return {
        "name": field.name,
        "datatype": field.datatype,
        "shape": values.shape,
        "parameters": {"binary_data_size": size},
    }


def _dumps(request_id: str, result: Result, tensors: list[dict[str, Any]]) -> bytes:
    answer = {
        "model_name": result.model,
        "model_version": result.version,
        "id": request_id,
        "parameters": {"arm": result.arm},
        "outputs": tensors,
    }
    return orjson.dumps(answer, option=orjson.OPT_SERIALIZE_NUMPY)
