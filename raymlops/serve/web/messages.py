"""A request and its answer, as plain values."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import msgspec
import orjson

from raymlops.errors import RequestError


class Request(msgspec.Struct, eq=False):
    """What a client asks; `path` is decoded, header names are lower case.

    `params` are what the names in a route's pattern stand for. Whoever goes on working after the
    handler has returned sets `on_gone`, which is called when the client leaves without an answer.
    """

    method: str
    path: str
    query: str = ""
    headers: Mapping[str, str] = msgspec.field(default_factory=dict)
    body: bytes = b""
    peer: str = ""
    params: Mapping[str, str] = msgspec.field(default_factory=dict)
    on_gone: Callable[[], None] | None = None

    def abandon(self) -> None:
        """Tells whoever works on this that nobody waits for the answer any more."""
        if self.on_gone is not None:
            self.on_gone()


class Response(msgspec.Struct):
    """What a client is told; JSON unless `content_type` says otherwise.

    `closes` ends the connection with it, where the server decides about that.
    """

    status: int
    body: bytes = b""
    content_type: str = "application/json"
    headers: tuple[tuple[str, str], ...] = ()
    closes: bool = False

    @classmethod
    def error(cls, status: int, message: str, *headers: tuple[str, str]) -> Response:
        return cls(status, orjson.dumps({"error": unicode_of(message)}), headers=headers)

    @property
    def reason(self) -> str:
        """What an error says is wrong."""
        found: str = orjson.loads(self.body)["error"]
        return found

    @classmethod
    def refusal(cls, error: RequestError) -> Response:
        """What is told of an error; a 503 always says when to come back, soon if nobody knows."""
        if error.retry_after_s is None and error.status != 503:
            return cls.error(error.status, error.message)
        # The header takes whole seconds; 0 would invite everybody back at once.
        seconds = max(1, math.ceil(error.retry_after_s or 0.0))
        return cls.error(error.status, error.message, ("retry-after", str(seconds)))


def unicode_of(message: str) -> str:
    """`message` as UTF-8 can write it: it may quote lone surrogates, which JSON can."""
    return message.encode("utf-8", "replace").decode()
