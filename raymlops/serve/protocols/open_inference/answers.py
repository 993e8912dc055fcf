"""Answers by the Open Inference Protocol: JSON, and binary tensors where they were asked for."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import orjson
from numpy.typing import NDArray

from raymlops.errors import RequestError
from raymlops.models import Field
from raymlops.serve.batching import Outputs
from raymlops.serve.batching.shares import Share
from raymlops.serve.form import Form
from raymlops.serve.inference import Result
from raymlops.serve.protocols.open_inference.binary import write_binary
from raymlops.serve.web import Response

_BINARY_TYPE = "application/octet-stream"
_NUMPY = orjson.OPT_SERIALIZE_NUMPY
_HOLE = "\0value\0"
"""Where a pattern has a value; no name can hold it."""


class Wanted(NamedTuple):
    """The outputs asked for, all when `names` is empty, and which of them in binary."""

    names: tuple[str, ...]
    binary: frozenset[str]
    every_binary: bool

    def is_binary(self, name: str) -> bool:
        return name in self.binary if self.names else self.every_binary


EVERY_OUTPUT = Wanted((), frozenset(), False)
"""As JSON, which is what most ask for by asking for nothing."""


_NOT_OFFERED = {"classification": "classification", "shared_memory_region": "shared memory"}


def refuse_not_offered(name: str, parameters: Mapping[str, Any]) -> None:
    """Raises RequestError, 400, where an output is asked for in a way that Triton has: told as
    ever it would be taken for scores by class, or looked for where it is not."""
    for asked, what in _NOT_OFFERED.items():
        if parameters.get(asked):
            raise RequestError(400, f"output '{name}': {what} is not offered")


def encode_answer(request_id: str, result: Result, wanted: Wanted) -> Response:
    """NaN becomes null in JSON."""
    if wanted is EVERY_OUTPUT and (text := _written_row(request_id, result)) is not None:
        return Response(200, text)
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


def _written_row(request_id: str, result: Result) -> bytes | None:
    """The answer to a request of one row; None where its values are of another kind."""
    outputs = result.outputs
    if not isinstance(outputs, Share) or outputs.num_rows != 1:
        return None
    pattern = _pattern(result.form, result.model, result.version, result.arm)
    written = outputs.batch.made_by(pattern)
    if written is None:
        return None
    return written.template % (orjson.dumps(request_id), *written.rows[outputs.start])


class _Written(NamedTuple):
    """A batch as text; `template` has a place for a request's id, then for each value of a row."""

    template: bytes
    rows: list[tuple[bytes, ...]]


class _Pattern:
    """Answers that differ in their values alone: those of a batch are written down at once, unless
    there are values that are neither numbers, lists of numbers, nor texts."""

    def __init__(self, form: Form, model: str, version: str, arm: str) -> None:
        self._names = tuple(form.outputs)
        self._of = (form, model, version, arm)

    def __call__(self, outputs: Outputs) -> _Written | None:
        columns = [outputs[name] for name in self._names]
        texts = [written for values in columns if (written := _texts(values)) is not None]
        if len(texts) < len(columns):
            return None
        template = _template(*self._of, tuple([values.shape[1:] for values in columns]))
        return _Written(template, list(zip(*texts, strict=True)))


def _texts(values: NDArray[Any]) -> list[bytes] | None:
    """The value of each row as JSON has it."""
    if values.dtype.kind in "fiub" and values.ndim <= 2 and values.size:
        numbers = orjson.dumps(writable(values.reshape(-1)), option=_NUMPY)[1:-1].split(b",")
        if values.ndim == 1:
            return numbers
        width = values.shape[1]
        starts = range(0, values.size, width)
        return [b"[%b]" % b",".join(numbers[start : start + width]) for start in starts]
    if values.ndim == 1 and set(map(type, found := values.tolist())) == {str}:
        return [orjson.dumps(text) for text in found]
    return None


@lru_cache(maxsize=64)
def _template(
    form: Form, model: str, version: str, arm: str, shapes: tuple[tuple[int, ...], ...]
) -> bytes:
    """Of outputs whose values have these shapes."""
    tensors = [
        {"name": name, "datatype": field.datatype, "shape": (1, *shape), "data": [_HOLE]}
        for (name, field), shape in zip(form.outputs.items(), shapes, strict=True)
    ]
    answer = _document(_HOLE, Result(model, version, arm, form, {}), tensors)
    return orjson.dumps(answer).replace(b"%", b"%%").replace(orjson.dumps(_HOLE), b"%b")


_pattern = lru_cache(maxsize=64)(_Pattern)


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
    return orjson.dumps(_document(request_id, result, tensors), option=_NUMPY)


def _document(request_id: str, result: Result, tensors: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "model_name": result.model,
        "model_version": result.version,
        "id": request_id,
        "parameters": {"arm": result.arm},
        "outputs": tensors,
    }
