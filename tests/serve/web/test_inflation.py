from __future__ import annotations

import gzip
import zlib

import pytest

from raymlops.errors import RequestError
from raymlops.serve.web.inflation import inflate


@pytest.mark.parametrize(
    ("encoding", "body"),
    [
        ("gzip", gzip.compress(b"abc", mtime=0)),
        (" GZIP ", gzip.compress(b"abc", mtime=0)),
        ("deflate", zlib.compress(b"abc")),
        ("identity", b"abc"),
    ],
)
def test_a_body_is_what_it_was_before(encoding: str, body: bytes) -> None:
    assert inflate(body, encoding, max_bytes=3) == b"abc"


@pytest.mark.parametrize(
    ("encoding", "body", "status", "message"),
    [
        ("br", b"abc", 415, "Content-Encoding is 'br'; gzip, deflate and identity are taken"),
        ("gzip", b"abc", 400, "the body is not gzip"),
        (
            "gzip",
            gzip.compress(b"abc", mtime=0)[:-1],
            400,
            "the body is not gzip: it ends too early",
        ),
        ("gzip", gzip.compress(b"abc", mtime=0) + b"xy", 400, "2 bytes follow the gzip body"),
        ("deflate", zlib.compress(bytes(10**6)), 413, "inflates to more than 100 bytes"),
    ],
)
def test_a_body_that_is_not_what_it_says_is_refused(
    encoding: str, body: bytes, status: int, message: str
) -> None:
    with pytest.raises(RequestError, match=message) as refused:
        inflate(body, encoding, max_bytes=100)
    assert refused.value.status == status
