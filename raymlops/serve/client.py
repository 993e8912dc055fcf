"""A client of the Open Inference Protocol that tries again when a connection or replica is lost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import uuid4

import httpx
import numpy as np
import orjson
from numpy.typing import NDArray

from raymlops.errors import RequestError

_DTYPES = {
    "BOOL": np.dtype(bool),
    "INT64": np.dtype(np.int64),
    "FP32": np.dtype(np.float32),
    "FP64": np.dtype(np.float64),
    "BYTES": np.dtype(object),
}


@dataclass(frozen=True, kw_only=True, eq=False)
class Answer:
    """What the model said, each output [rows] in the order of the request's rows."""

    request_id: str
    version: str
    arm: str
    outputs: Mapping[str, NDArray[Any]]


class Client:
    """Pooled connections to one server; may be shared by threads.

    with Client("http://127.0.0.1:8000") as client:
        answer = client.infer("flights", {"dep_hour": [7.0], "carrier": ["AA"]})

    A request that met a lost connection or an overloaded server is sent again, `retries` times at
    most and under the same id, so that nothing counts it twice.
    """

    def __init__(self, url: str, *, timeout_s: float = 10.0, retries: int = 1) -> None:
        if retries < 0:
            raise ValueError(f"retries is {retries}, it cannot be negative")
        self._url = url
        self._retries = retries
        # The server is named by the user; proxies of the environment have no part in that.
        self._http = httpx.Client(base_url=url, timeout=timeout_s, trust_env=False)

    def infer(
        self,
        model: str,
        columns: Mapping[str, Sequence[Any] | NDArray[Any]],
        *,
        request_id: str | None = None,
        key: str | None = None,
        event_time: datetime | None = None,
        version: str | None = None,
    ) -> Answer:
        """The model's answer for `columns`, all of one length; None and NaN are missing values.

        Args:
            request_id: by which labels are matched later; a new one by default.
            key: what decides the arm, e.g. a user; the request's id by default.
            event_time: when it happened, with a zone; now by default.
            version: asks this version, whatever the traffic split.

        Raises:
            RequestError: the server refused the request or could not be reached.
        """
        request_id = request_id or uuid4().hex
        body = _encode(request_id, columns, key, event_time)
        path = f"/v2/models/{model}"
        if version is not None:
            path += f"/versions/{version}"
        return _decode(self._send("POST", f"{path}/infer", body))

    def metadata(self, model: str) -> dict[str, Any]:
        """The model's name, loaded versions, platform, inputs and outputs."""
        found: dict[str, Any] = orjson.loads(self._send("GET", f"/v2/models/{model}").content)
        return found

    def ready(self, model: str) -> bool:
        """Whether the model answers requests."""
        try:
            self._send("GET", f"/v2/models/{model}/ready")
        except RequestError:
            return False
        return True

    def close(self) -> None:
        self._http.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _send(self, method: str, path: str, body: bytes | None = None) -> httpx.Response:
        headers = {} if body is None else {"content-type": "application/json"}
        for left in range(self._retries, -1, -1):
            try:
                response = self._http.request(method, path, content=body, headers=headers)
            except httpx.TimeoutException as error:
                raise RequestError(504, f"{self._url} did not answer in time") from error
            except httpx.TransportError as error:
                if not left:
                    raise RequestError(503, f"{self._url} cannot be reached: {error}") from error
            else:
                if response.is_success:
                    return response
                if not left or not _may_pass(response):
                    raise RequestError(response.status_code, _message(response))
        raise AssertionError("the last attempt returns or raises")


def _may_pass(response: httpx.Response) -> bool:
    """Whether the same request may succeed at once: overload, or a replica lost under it.

    A 5xx that is not JSON comes from the proxy in front of a replica that died.
    """
    is_json = response.headers.get("content-type", "").startswith("application/json")
    return response.status_code == 503 or (response.status_code >= 500 and not is_json)


def _message(response: httpx.Response) -> str:
    try:
        return str(orjson.loads(response.content)["error"])
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return response.text[:200]


def _encode(
    request_id: str,
    columns: Mapping[str, Sequence[Any] | NDArray[Any]],
    key: str | None,
    event_time: datetime | None,
) -> bytes:
    parameters: dict[str, str] = {}
    if key is not None:
        parameters["key"] = key
    if event_time is not None:
        if event_time.tzinfo is None:
            raise ValueError(f"event_time {event_time.isoformat()} has no zone; give it one")
        parameters["event_time"] = event_time.isoformat()
    inputs = [_tensor(name, np.asarray(column)) for name, column in columns.items()]
    request = {"id": request_id, "parameters": parameters, "inputs": inputs}
    return orjson.dumps(request, option=orjson.OPT_SERIALIZE_NUMPY)


def _tensor(name: str, column: NDArray[Any]) -> dict[str, Any]:
    """A column as a tensor; objects are text unless there is a number among them."""
    return {"name": name, "shape": [len(column)], **_data(column)}


def _data(column: NDArray[Any]) -> dict[str, Any]:
    match column.dtype.kind:
        case "f":
            return {"datatype": "FP64", "data": np.ascontiguousarray(column, dtype=np.float64)}
        case "i" | "u":
            return {"datatype": "INT64", "data": np.ascontiguousarray(column, dtype=np.int64)}
        case "b":
            return {"datatype": "BOOL", "data": np.ascontiguousarray(column)}
        case _:
            values = column.tolist()
            numbers = any(isinstance(value, int | float) for value in values)
            return {"datatype": "FP64" if numbers else "BYTES", "data": values}


def _decode(response: httpx.Response) -> Answer:
    answer = orjson.loads(response.content)
    return Answer(
        request_id=answer["id"],
        version=answer["model_version"],
        arm=answer["parameters"]["arm"],
        outputs={
            tensor["name"]: np.array(tensor["data"], dtype=_DTYPES[tensor["datatype"]])
            for tensor in answer["outputs"]
        },
    )
