"""The Open Inference Protocol v2 as REST and JSON: bytes to requests and answers to bytes.

https://github.com/open-inference/open-inference-protocol/blob/main/specification/protocol/inference_rest.md

Reading takes two steps, because the signature that columns must fit belongs to a version, the
version to an arm, and the arm to the request's key:

    body --parse_infer--> id, key, tensors --(key -> arm -> version)--> read_columns --> columns
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata
from types import NoneType
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from raymlops.data import Column
from raymlops.errors import RequestError, SignatureError
from raymlops.models import Field, Signature

PLATFORM = "onnxruntime_onnx"

_INTEGERS = {f"{prefix}INT{bits}" for prefix in ("", "U") for bits in (8, 16, 32, 64)}
_FLOATS = {"FP32", "FP64"}
_MAX_ID_LENGTH = 256


@dataclass(frozen=True, kw_only=True)
class InferRequest:
    """A request whose envelope is well-formed; its `tensors` are not read yet.

    `outputs` are the names asked for; empty means all.
    """

    id: str
    key: str
    event_time: datetime
    tensors: tuple[Mapping[str, Any], ...]
    outputs: tuple[str, ...]


def parse_infer(body: bytes, *, now: datetime) -> InferRequest:
    """The request in `body`; `now` is its event time unless it names another.

    Raises:
        RequestError: 400, naming the member at fault.
    """
    document = _object(_load(body), "the body")
    request_id = _text(document.get("id", ""), "id") or secrets.token_hex(16)
    parameters = _object(document.get("parameters", {}), "parameters")
    tensors = _list(document.get("inputs"), "inputs")
    outputs = [_object(item, "outputs") for item in _list(document.get("outputs", []), "outputs")]
    return InferRequest(
        id=request_id,
        key=_text(parameters.get("key", request_id), "parameters.key"),
        event_time=_time(parameters.get("event_time"), now),
        tensors=tuple(_object(tensor, "inputs") for tensor in tensors),
        outputs=tuple(_text(item.get("name"), "outputs.name") for item in outputs),
    )


def read_columns(request: InferRequest, signature: Signature) -> dict[str, Column]:
    """The request's columns, checked to be what the model takes.

    Raises:
        RequestError: 400, naming the field at fault.
    """
    fields = {field.name: field for field in signature.inputs}
    columns: dict[str, Column] = {}
    try:
        for tensor in request.tensors:
            name = _text(tensor.get("name"), "inputs.name")
            if name in columns:
                raise SignatureError(name, "given twice")
            if name not in fields:
                raise SignatureError(name, f"unknown; the model takes {', '.join(sorted(fields))}")
            columns[name] = _column(fields[name], tensor)
        signature.check(columns)
    except SignatureError as error:
        raise RequestError(400, str(error)) from error
    known = {field.name for field in signature.outputs}
    for name in request.outputs:
        if name not in known:
            raise RequestError(400, f"output '{name}': unknown; there are {sorted(known)}")
    return columns


def encode_infer(
    request: InferRequest,
    outputs: Mapping[str, NDArray[Any]],
    *,
    model: str,
    version: str,
    arm: str,
    signature: Signature,
) -> bytes:
    """The answer's body; NaN becomes null."""
    wanted = request.outputs or tuple(field.name for field in signature.outputs)
    tensors = [
        {
            "name": field.name,
            "datatype": field.datatype,
            "shape": [len(outputs[field.name])],
            "data": np.ascontiguousarray(outputs[field.name]),
        }
        for field in signature.outputs
        if field.name in wanted
    ]
    answer = {
        "model_name": model,
        "model_version": version,
        "id": request.id,
        "parameters": {"arm": arm},
        "outputs": tensors,
    }
    return orjson.dumps(answer, option=orjson.OPT_SERIALIZE_NUMPY)


def encode_metadata(model: str, versions: Sequence[str], signature: Signature) -> bytes:
    return orjson.dumps(
        {
            "name": model,
            "versions": versions,
            "platform": PLATFORM,
            "inputs": [_tensor_metadata(field) for field in signature.inputs],
            "outputs": [_tensor_metadata(field) for field in signature.outputs],
        }
    )


def encode_server_metadata() -> bytes:
    try:
        version = metadata.version("raymlops")
    except metadata.PackageNotFoundError:  # run from a source tree
        version = "0+source"
    return orjson.dumps({"name": "raymlops", "version": version, "extensions": []})


def encode_ready(model: str) -> bytes:
    return orjson.dumps({"name": model, "ready": True})


def encode_health(**state: bool) -> bytes:
    """`live` or `ready`, as the server's health endpoints name them."""
    return orjson.dumps(state)


def _tensor_metadata(field: Field) -> dict[str, Any]:
    return {"name": field.name, "datatype": field.datatype, "shape": [-1, *field.shape]}


def _load(body: bytes) -> Any:
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as strict:
        # Python's parser takes NaN, Infinity and numbers beyond a float, so that what is wrong
        # can be told of the field that holds them.
        try:
            return json.loads(body)
        except (ValueError, RecursionError):
            raise RequestError(400, f"the body is not JSON: {strict}") from strict


def _column(field: Field, tensor: Mapping[str, Any]) -> Column:
    """Raises SignatureError when the tensor is malformed or of another type than the field."""
    data = _rows(field.name, tensor)
    datatype = tensor.get("datatype")
    if not isinstance(datatype, str) or datatype not in _accepted(field):
        raise SignatureError(field.name, f"has datatype {_shown(datatype)}, not {field.datatype}")
    if field.datatype == "BYTES":
        return _texts(field.name, data)
    return _numbers(field.name, data, datatype)


def _accepted(field: Field) -> set[str]:
    match field.datatype:
        case "FP16" | "FP32" | "FP64":
            return _INTEGERS | _FLOATS
        case "BOOL" | "BYTES":
            return {field.datatype}
        case _:
            return _INTEGERS


def _rows(name: str, tensor: Mapping[str, Any]) -> list[Any]:
    """The tensor's data as one value a row, whether its shape is [rows] or [rows, 1]."""
    shape, data = tensor.get("shape"), tensor.get("data")
    if not isinstance(data, list):
        raise SignatureError(name, "has no data; only JSON data is taken")
    if not (
        isinstance(shape, list)
        and len(shape) in (1, 2)
        and all(type(size) is int for size in shape)
        and shape[1:] in ([], [1])
    ):
        raise SignatureError(name, "its shape is neither [rows] nor [rows, 1]")
    if len(shape) == 2 and data and isinstance(data[0], list):
        if any(not isinstance(row, list) or len(row) != 1 for row in data):
            raise SignatureError(name, f"its data is ragged, its shape says {shape}")
        data = [row[0] for row in data]
    if shape[0] != len(data):
        raise SignatureError(name, f"has {len(data)} values, its shape says {shape}")
    if not data:
        raise SignatureError(name, "has no rows")
    return data


def _numbers(name: str, data: list[Any], datatype: str) -> NDArray[np.float64]:
    kinds: set[type] = {bool} if datatype == "BOOL" else {int}
    if datatype in _FLOATS:
        kinds |= {float}
    _check_types(name, data, kinds, datatype)
    try:
        column = np.array(data, dtype=np.float64)  # None becomes NaN
    except OverflowError as error:
        raise SignatureError(name, "holds a number beyond the range of FP64") from error
    if datatype in _INTEGERS:
        bounds = np.iinfo(datatype.lower())
        outside = (column < bounds.min) | (column > bounds.max)
        if outside.any():
            row = int(np.argmax(outside))
            raise SignatureError(name, f"row {row} is {data[row]}, beyond the range of {datatype}")
    return column


def _texts(name: str, data: list[Any]) -> NDArray[np.object_]:
    _check_types(name, data, {str}, "text")
    for row, value in enumerate(data):
        if value is not None and not _is_unicode(value):
            raise SignatureError(name, f"row {row} is not valid Unicode")
    return np.array(data, dtype=object)


def _check_types(name: str, data: list[Any], kinds: set[type], wanted: str) -> None:
    if not set(map(type, data)) <= kinds | {NoneType}:
        allowed = (*kinds, NoneType)
        row = next(row for row, value in enumerate(data) if type(value) not in allowed)
        raise SignatureError(name, f"row {row} is {_shown(data[row])}, not {wanted}")


def _text(value: Any, where: str) -> str:
    if not isinstance(value, str):
        raise RequestError(400, f"{where} is {_shown(value)}, not text")
    if len(value) > _MAX_ID_LENGTH:
        raise RequestError(400, f"{where} has {len(value)} characters, over {_MAX_ID_LENGTH}")
    if not _is_unicode(value):
        raise RequestError(400, f"{where} is not valid Unicode")
    return value


def _is_unicode(value: str) -> bool:
    """Whether `value` has no lone surrogates, which JSON can write and UTF-8 cannot."""
    try:
        return value.isascii() or bool(value.encode())
    except UnicodeEncodeError:
        return False


def _time(value: Any, now: datetime) -> datetime:
    if value is None:
        return now
    try:
        time = datetime.fromisoformat(value)
        if time.tzinfo is not None:
            return time.astimezone(UTC)
    except (TypeError, ValueError, OverflowError):
        pass
    raise RequestError(
        400,
        f"parameters.event_time is {_shown(value)}, not a time with its zone, "
        "e.g. 2013-07-01T12:00:00Z",
    )


def _object(value: Any, where: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise RequestError(400, f"{where} holds {_shown(value)} where an object belongs")
    return value


def _list(value: Any, where: str) -> list[Any]:
    if not isinstance(value, list):
        raise RequestError(400, f"{where} is {_shown(value)}, not a list")
    return value


def _shown(value: Any) -> str:
    """`value` for an error message: short, and never costly to write out."""
    if isinstance(value, str):
        return repr(value[:40])
    if isinstance(value, float | NoneType | bool):
        return repr(value)
    return {int: "a whole number", list: "a list", dict: "an object"}[type(value)]
