"""Responses as HTTP/1.1 writes them."""

from __future__ import annotations

from email.utils import formatdate
from functools import lru_cache
from http import HTTPStatus

from raymlops.serve.web import Response

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"

_NO_CONTENT = frozenset({204, 304})


class Encoder:
    """Writes responses; `tick` it once a second, or their dates are old."""

    def __init__(self, now: float) -> None:
        self.tick(now)

    def tick(self, now: float) -> None:
        """`now` is Unix time."""
        date = b"\r\ndate: " + formatdate(now, usegmt=True).encode()
        self._keep = date + b"\r\n\r\n"
        self._close = date + b"\r\nconnection: close\r\n\r\n"

    def encode(self, response: Response, *, close: bool, head_only: bool) -> bytes:
        body, end = response.body, self._close if close else self._keep
        if response.headers:
            end = _lines(response.headers) + end
        shown = b"" if head_only or response.status in _NO_CONTENT else body
        prefix = _prefix(response.status, response.content_type)
        return b"%b%d%b%b" % (prefix, len(body), end, shown)


@lru_cache(maxsize=256)
def _prefix(status: int, content_type: str) -> bytes:
    phrase = HTTPStatus(status).phrase
    line = f"HTTP/1.1 {status} {phrase}\r\ncontent-type: {_one_line(content_type)}"
    return f"{line}\r\ncontent-length: ".encode("latin-1", "replace")


def _lines(headers: tuple[tuple[str, str], ...]) -> bytes:
    lines = (f"\r\n{_one_line(name)}: {_one_line(text)}" for name, text in headers)
    return "".join(lines).encode("latin-1", "replace")


def _one_line(text: str) -> str:
    """Without line breaks, by which a header could smuggle another one in."""
    return text.replace("\r", " ").replace("\n", " ")
