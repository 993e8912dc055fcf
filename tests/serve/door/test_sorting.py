from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raymlops.serve.door.sorting import (
    may_have_path,
    may_have_session,
    model_of,
    path_of,
    session_of,
)


@pytest.mark.parametrize(
    ("sent", "wanted"),
    [
        (b"GET /v2/models/flights HTTP/1.1\r\n", "/v2/models/flights"),
        (b"GET /v2/models/flights", None),
        (b"POST /v2/models/a%2Db/infer?x HTTP/1.1", "/v2/models/a-b/infer"),
        (b"\r\n\r\nGET /v2 HTTP/1.1\r\n", "/v2"),
        (b"GET http://a:80/v2/health/live HTTP/1.1", "/v2/health/live"),
        (b"\x16\x03\x01\x02\x00", None),
        (b"", None),
    ],
)
def test_a_path_is_told_once_it_is_complete(sent: bytes, wanted: str | None) -> None:
    assert path_of(sent) == wanted


@given(cut=st.integers(0, 60))
def test_a_path_is_waited_for_while_it_may_come(cut: int) -> None:
    sent = b"\r\nPOST /v2/models/flights/infer HTTP/1.1\r\nHost: a\r\n"[:cut]
    assert path_of(sent) in (None, "/v2/models/flights/infer")
    assert path_of(sent) is not None or may_have_path(sent)


@pytest.mark.parametrize("sent", [b"\x16\x03\x01", b"hello\r\n", b"get / HTTP/1.1"])
def test_what_is_not_http_is_not_waited_for(sent: bytes) -> None:
    assert path_of(sent) is None
    assert not may_have_path(sent)


@pytest.mark.parametrize(
    ("headers", "wanted"),
    [
        (b"X-Session-Id: anna\r\n\r\n", "anna"),
        (b"a: b\r\nx-session-id:\tanna b \r\nc: d\r\n", "anna b"),
        (b"x-session-id: an", None),
        (b"x-session-id: \r\n\r\n", None),
        (b"x-session-id: \r\nx-session-id: anna\r\n\r\n", "anna"),
        (b"my-x-session-id: anna\r\n\r\n", None),
        (b"a: b\r\n\r\n\r\nx-session-id: in the body\r\n", None),
    ],
)
def test_a_session_is_told_once_its_header_is_complete(headers: bytes, wanted: str | None) -> None:
    assert session_of(b"POST /v2 HTTP/1.1\r\n" + headers) == wanted


def test_blanks_in_place_of_a_session_take_no_time() -> None:
    began = time.process_time()
    assert session_of(b"GET / HTTP/1.1\r\nx-session-id:" + b" " * 20_000 + b"\r\n\r\n") is None
    assert time.process_time() - began < 1.0  # by backtracking over all of them 5 s


@given(cut=st.integers(0, 80))
def test_a_session_is_waited_for_while_it_may_come(cut: int) -> None:
    sent = b"POST /v2 HTTP/1.1\r\nHost: a\r\nX-Session-Id: anna\r\n\r\n{}"[:cut]
    assert session_of(sent) in (None, "anna")
    assert session_of(sent) is not None or may_have_session(sent)
    assert not may_have_session(b"hello\r\n")
    assert not may_have_session(b"GET / HTTP/1.1\r\n\r\n")


@pytest.mark.parametrize(
    ("path", "wanted"),
    [
        ("/v2/models/flights", "flights"),
        ("/v2/models/flights/versions/1.0.0/infer", "flights"),
        ("/v2/repository/models/flights/load", "flights"),
        ("/v1/models/flights:predict", "flights"),
        ("/v1/models/flights/versions/1:predict", "flights"),
        ("/v2/models/stats/infer", "stats"),
        ("/v2/models/stats", None),  # of all models, as Triton has it
        ("/v2/health/ready", None),
        ("/predict", None),
    ],
)
def test_a_path_names_its_model(path: str, wanted: str | None) -> None:
    assert model_of(path) == wanted
