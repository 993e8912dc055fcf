"""Requests by the Open Inference Protocol, and what their answers say; no network."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from numbers import Real
from typing import Any
from urllib.parse import quote
from uuid import uuid4

import numpy as np
import orjson
from numpy.typing import NDArray

from raymlops.errors import RequestError

Columns = Mapping[str, Sequence[Any] | NDArray[Any]]

_DTYPES = {
    "BOOL": "?",
    "UINT8": "<u1",
    "UINT16": "<u2",
    "UINT32": "<u4",
    "UINT64": "<u8",
    "INT8": "<i1",
    "INT16": "<i2",
    "INT32": "<i4",
    "INT64": "<i8",
    "FP16": "<f2",
    "FP32": "<f4",
    "FP64": "<f8",
}
_DATATYPES = {np.dtype(dtype): datatype for datatype, dtype in _DTYPES.items()}
_JSON_LENGTH = "inference-header-content-length"
_MIN_BINARY_VALUES = 256
"""From here on numbers are sent as they lie in memory, which costs less than writing them out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """An HTTP request; the same one may be sent again, by its id it counts once."""

    method: str
    path: str
    body: bytes = b""
    headers: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What came back; header names are lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def is_json(self) -> bool:
        return self.headers.get("content-type", "").startswith("application/json")

    @property
    def error(self) -> str:
        """The reason of a refusal."""
        try:
            return str(orjson.loads(self.body)["error"])
        except (orjson.JSONDecodeError, KeyError, TypeError):
            return self.body[:200].decode("utf-8", "replace")


@dataclass(frozen=True, kw_only=True, eq=False)
class Answer:
    """What the model said, each output [rows, ...] in the order of the request's rows."""

    request_id: str
    version: str
    arm: str
    outputs: Mapping[str, NDArray[Any]]


def infer_call(
    model: str,
    columns: Columns,
    *,
    request_id: str | None = None,
    key: str | None = None,
    event_time: datetime | None = None,
    version: str | None = None,
) -> Call:
    """Asks for all outputs of `columns`, under a new id by default; None, NaN and pandas' NA are
    missing values.

    Raises:
        ValueError: a column holds what JSON cannot, or `event_time` has no zone.
    """
    parameters: dict[str, Any] = {}
    if key is not None:
        parameters["key"] = key
    if event_time is not None:
        if event_time.tzinfo is None:
            raise ValueError(f"event_time {event_time.isoformat()} has no zone; give it one")
        parameters["event_time"] = event_time.isoformat()
    tensors, parts = [], []
    for name, values in columns.items():
        tensor, raw = _tensor(name, _array(values))
        tensors.append(_written(name, tensor))
        parts.append(raw)
    headers = {"content-type": "application/json"}
    if any(parts):
        parameters["binary_data_output"] = True
    document = {"id": request_id or uuid4().hex, "parameters": parameters, "inputs": tensors}
    head = orjson.dumps(document)
    if any(parts):
        headers = {"content-type": "application/octet-stream", _JSON_LENGTH: str(len(head))}
    path = f"{path_of(model, version)}/infer"
    return Call(method="POST", path=path, body=b"".join((head, *parts)), headers=headers)


def path_of(model: str, version: str | None = None) -> str:
    """Where a model answers; whatever it is called, that is a part of the path and no more."""
    path = f"/v2/models/{quote(model, safe='')}"
    return path if version is None else f"{path}/versions/{quote(version, safe='')}"


def answer_of(reply: Reply) -> Answer:
    """What a 200 to `infer_call` says.

    Raises:
        RequestError: 502, whoever answered does not speak the protocol.
    """
    try:
        length = int(reply.headers.get(_JSON_LENGTH, len(reply.body)))
        document = orjson.loads(reply.body[:length])
        return Answer(
            request_id=document["id"],
            version=document["model_version"],
            arm=document["parameters"]["arm"],
            outputs=_outputs(document["outputs"], memoryview(reply.body)[length:]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise RequestError(502, f"the answer is no inference: {error!r}") from error


def _array(values: Sequence[Any] | NDArray[Any]) -> NDArray[Any]:
    column = np.asarray(values)
    # Among texts, NaN would have become the text "nan".
    return np.array(values, dtype=object) if column.dtype.kind == "U" else column


def _tensor(name: str, column: NDArray[Any]) -> tuple[dict[str, Any], bytes]:
    """A column as a tensor, and its values when they are many numbers."""
    tensor: dict[str, Any] = {"name": name, "shape": column.shape}
    if column.dtype.kind not in "fiub":
        values = [None if _is_missing(value) else value for value in column.ravel().tolist()]
        if any(isinstance(value, float) and math.isinf(value) for value in values):
            return _tensor(name, np.array(values, np.float64).reshape(column.shape))
        return tensor | {"datatype": _datatype_of(values), "data": values}, b""
    datatype = _DATATYPES.get(column.dtype.newbyteorder("<"), "FP64")
    column = np.ascontiguousarray(column, dtype=_DTYPES[datatype])
    tensor["datatype"] = datatype
    # In JSON infinity would become null, which stands for a missing value.
    if column.size < _MIN_BINARY_VALUES and not np.isinf(column).any():
        return tensor | {"data": column.ravel()}, b""
    return tensor | {"parameters": {"binary_data_size": column.nbytes}}, column.tobytes()


def _written(name: str, tensor: dict[str, Any]) -> orjson.Fragment:
    try:
        return orjson.Fragment(orjson.dumps(tensor, option=orjson.OPT_SERIALIZE_NUMPY))
    except orjson.JSONEncodeError as error:
        raise ValueError(
            f"column '{name}' holds what JSON cannot: {error}; pass texts, truth values, or "
            "numbers of 64 bits"
        ) from error


def _is_missing(value: Any) -> bool:
    if value is None:
        return True
    try:
        return bool(value != value)
    except TypeError:  # of pandas' NA nobody can say whether it is itself
        return True


def _datatype_of(values: Sequence[Any]) -> str:
    """Of Python's objects: they are text unless all are truth values, or one is a number."""
    known = [value for value in values if value is not None]
    if known and all(isinstance(value, bool | np.bool_) for value in known):
        return "BOOL"
    return "FP64" if any(isinstance(value, Real) for value in known) else "BYTES"


def _outputs(tensors: Sequence[Mapping[str, Any]], tail: memoryview) -> dict[str, NDArray[Any]]:
    outputs: dict[str, NDArray[Any]] = {}
    for tensor in tensors:
        datatype, shape = tensor["datatype"], tensor["shape"]
        size = tensor.get("parameters", {}).get("binary_data_size")
        if size is None:
            values = np.array(tensor["data"], dtype=_DTYPES.get(datatype, object))
        elif datatype == "BYTES":
            values, tail = _texts(tail[:size]), tail[size:]
        else:
            values, tail = np.frombuffer(tail[:size], _DTYPES[datatype]), tail[size:]
        outputs[tensor["name"]] = values.reshape(shape)
    return outputs


def _texts(data: memoryview) -> NDArray[Any]:
    """Each a little-endian length of four bytes, then that many of UTF-8."""
    texts, at = [], 0
    while at < len(data):
        start = at + 4
        at = start + int.from_bytes(data[at:start], "little")
        texts.append(str(data[start:at], "utf-8"))
    return np.array(texts, dtype=object)
