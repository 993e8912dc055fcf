from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import httpx
import numpy as np
import orjson
import pandas as pd
import pytest

from raymlops.errors import RequestError
from raymlops.serve import Client
from raymlops.serve.client.messages import infer_call

ANSWER = {
    "model_name": "m",
    "model_version": "1.0.0",
    "id": "r-1",
    "parameters": {"arm": "champion"},
    "outputs": [
        {"name": "probability", "datatype": "FP32", "shape": [2], "data": [0.1, None]},
        {"name": "late", "datatype": "BOOL", "shape": [2], "data": [True, False]},
    ],
}

Handler = Callable[[httpx.Request], httpx.Response]


def client_of(handler: Handler, **options: Any) -> Client:
    """A client whose requests are handled here."""
    client = Client("http://server", **options)
    client._http.close()
    client._http = httpx.Client(
        base_url="http://server", transport=httpx.MockTransport(handler), trust_env=False
    )
    return client


def scripted(*replies: httpx.Response | Exception) -> tuple[Handler, list[httpx.Request]]:
    left, requests = list(replies), []

    def handle(request: httpx.Request) -> httpx.Response:
        requests.append(request)
        reply = left.pop(0)
        if isinstance(reply, Exception):
            raise reply
        return reply

    return handle, requests


def ok() -> httpx.Response:
    return httpx.Response(200, json=ANSWER)


def test_a_request_says_what_the_caller_said() -> None:
    handle, requests = scripted(ok())
    with client_of(handle) as client:
        answer = client.infer(
            "m",
            {
                "x": np.array([1.5, np.nan]),
                "n": [1, 2],
                "text": np.array(["a", None], dtype=object),
                "gone": np.array([None, None], dtype=object),
                "holes": [1.0, None],
            },
            request_id="r-1",
            key="anna",
            event_time=datetime(2013, 7, 1, tzinfo=UTC),
        )
    assert requests[0].url.path == "/v2/models/m/infer"
    sent = orjson.loads(requests[0].content)
    assert sent["id"] == "r-1"
    assert sent["parameters"] == {"key": "anna", "event_time": "2013-07-01T00:00:00+00:00"}
    assert [(t["name"], t["datatype"], t["shape"], t["data"]) for t in sent["inputs"]] == [
        ("x", "FP64", [2], [1.5, None]),
        ("n", "INT64", [2], [1, 2]),
        ("text", "BYTES", [2], ["a", None]),
        ("gone", "BYTES", [2], [None, None]),
        ("holes", "FP64", [2], [1.0, None]),
    ]
    assert (answer.request_id, answer.version, answer.arm) == ("r-1", "1.0.0", "champion")
    np.testing.assert_array_equal(answer.outputs["probability"], np.float32([0.1, np.nan]))
    assert answer.outputs["probability"].dtype == np.float32
    assert answer.outputs["late"].tolist() == [True, False]


@pytest.mark.parametrize(
    ("values", "datatype", "sent"),
    [
        (["UA", np.nan], "BYTES", ["UA", None]),  # as pandas has a missing text
        (np.array(["UA", np.nan], dtype=object), "BYTES", ["UA", None]),
        ([[" ", "b"]], "BYTES", [" ", "b"]),
        ([True, None], "BOOL", [True, None]),
        (np.array([np.True_, None], dtype=object), "BOOL", [True, None]),
        (np.array([np.int64(3), None], dtype=object), "FP64", [3, None]),
        ([np.float32(0.5), None], "FP64", [0.5, None]),
        (pd.Series(["UA", pd.NA], dtype="string"), "BYTES", ["UA", None]),
        (pd.Series([True, pd.NA], dtype="boolean"), "BOOL", [True, None]),
        ([pd.NaT, "UA"], "BYTES", [None, "UA"]),
    ],
)
def test_missing_values_leave_a_column_what_it_is(values: Any, datatype: str, sent: Any) -> None:
    """NaN made texts numbers, or became a text itself; None made truth values numbers."""
    (tensor,) = orjson.loads(infer_call("m", {"x": values}).body)["inputs"]
    assert (tensor["datatype"], tensor["data"]) == (datatype, sent)


@pytest.mark.parametrize("values", [np.array([np.inf, np.nan]), [np.inf, None], [[np.inf], [None]]])
def test_infinity_is_sent_as_what_it_is(values: Any) -> None:
    """JSON made it null, and the model was asked about a missing value."""
    call = infer_call("m", {"n": [1, 2], "x": values})
    length = int(call.headers["inference-header-content-length"])
    n, x = orjson.loads(call.body[:length])["inputs"]
    assert n["data"] == [1, 2]
    assert (x["datatype"], x["parameters"]) == ("FP64", {"binary_data_size": 16})
    assert x["shape"] == [*np.shape(values)]
    sent = np.frombuffer(call.body[length:], "<f8")
    np.testing.assert_array_equal(sent, [np.inf, np.nan])


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (Decimal("1.5"), "Decimal"),
        (b"a", "bytes"),
        ("\ud800", "surrogates not allowed"),
        (2**70, "exceeds 64-bit"),
    ],
)
def test_what_json_cannot_hold_is_refused_by_column(value: Any, reason: str) -> None:
    with pytest.raises(ValueError, match=f"column 'x' holds what JSON cannot: .*{reason}"):
        infer_call("m", {"n": [1], "x": [value]})


@pytest.mark.parametrize(
    "failure",
    [
        httpx.ConnectError("refused"),
        httpx.RemoteProtocolError("server disconnected"),
        httpx.Response(503, json={"error": "full"}),
        httpx.Response(500, text="Internal Server Error"),  # Serve's proxy: the replica died
    ],
)
def test_what_may_pass_is_tried_again_under_the_same_id(
    failure: httpx.Response | Exception,
) -> None:
    handle, requests = scripted(failure, ok())
    with client_of(handle) as client:
        client.infer("m", {"x": [1.0]})
    first, second = (orjson.loads(request.content)["id"] for request in requests)
    assert first == second


@pytest.mark.parametrize(
    ("reply", "status", "message"),
    [
        (httpx.Response(400, json={"error": "field 'x': missing"}), 400, "field 'x': missing"),
        (httpx.Response(500, json={"error": "internal error"}), 500, "internal error"),
        (httpx.Response(404, text="no such path"), 404, "no such path"),
        (httpx.ReadTimeout("slow"), 504, "did not answer in time"),
    ],
)
def test_what_will_not_pass_is_raised_at_once(
    reply: httpx.Response | Exception, status: int, message: str
) -> None:
    handle, requests = scripted(reply)
    with client_of(handle) as client, pytest.raises(RequestError, match=message) as raised:
        client.infer("m", {"x": [1.0]})
    assert raised.value.status == status
    assert len(requests) == 1


def test_retries_end() -> None:
    handle, requests = scripted(*(httpx.ConnectError("refused") for _ in range(3)))
    with client_of(handle, retries=2) as client:
        with pytest.raises(RequestError, match="cannot be reached: refused") as raised:
            client.infer("m", {"x": [1.0]})
        assert raised.value.status == 503
    assert len(requests) == 3


def test_a_name_is_a_part_of_the_path_and_no_more() -> None:
    """`x?` asked for the model x, and another path than that of its answers."""
    handle, requests = scripted(ok(), ok(), ok())
    with client_of(handle) as client:
        client.infer("x?y#z", {"x": [1.0]})
        client.infer("a/../b", {"x": [1.0]}, version="1.0.0+c/d")
        client.metadata("%75 é")
    assert [request.url.raw_path for request in requests] == [
        b"/v2/models/x%3Fy%23z/infer",
        b"/v2/models/a%2F..%2Fb/versions/1.0.0%2Bc%2Fd/infer",
        b"/v2/models/%2575%20%C3%A9",
    ]


def test_ready_is_an_answer_not_an_error() -> None:
    handle, _ = scripted(httpx.Response(200, json={}), httpx.Response(404, json={"error": ""}))
    with client_of(handle) as client:
        assert client.ready("m")
        assert not client.ready("m")


def test_a_time_without_a_zone_is_refused() -> None:
    with Client("http://server") as client, pytest.raises(ValueError, match="has no zone"):
        client.infer("m", {"x": [1.0]}, event_time=datetime(2013, 7, 1))
