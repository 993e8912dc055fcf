"""Heads of requests that were read before: a client sends the same one again and again.

Most of what HTTP asks of a server is to read heads. What llhttp made of one depends on its bytes
alone, so one that comes a third time is looked up; only requests that came as a whole, with a body
of a length that their head gave, are remembered.
"""

from __future__ import annotations

from typing import NamedTuple

from raymlops.serve.web import Handler, Request, sorted_out

_END = b"\r\n\r\n"
_MAX_HEADS = 1024
_MAX_BYTES = 2048
_UNUSUAL = ("transfer-encoding", "expect")


class Known(NamedTuple):
    """`head` is a request without its body, which `handler` answers; `size` is that of the whole,
    head and body."""

    head: Request
    handler: Handler
    size: int


class Heads:
    """The heads that the connections of a server share, whose requests `handler` answers, or to
    whom that sorts them; how much it holds is bounded."""

    def __init__(self, handler: Handler) -> None:
        self._handler = handler
        self._known: dict[bytes, Known] = {}
        self._seen: set[int] = set()

    def find(self, data: bytes) -> tuple[Request, Handler, bytes] | None:
        """The head, who answers it, and the body in `data`, if that is one whole request whose
        head is known."""
        end = data.find(_END, 0, _MAX_BYTES) + len(_END)
        known = self._known.get(data[:end])
        if known is None or known.size != len(data):
            return None
        return known.head, known.handler, data[end:]

    def learn(self, data: bytes, read: Request, body_size: int) -> None:
        """`data` was read as the head `read` and so long a body, and nothing else.

        A head is kept when it comes for the second time: many never do, since they hold an id.
        """
        end = data.find(_END, 0, _MAX_BYTES) + len(_END)
        headers = read.headers
        if (
            end < len(_END)
            or end + body_size != len(data)
            or headers.get("content-length", "0") != str(body_size)
            or any(name in headers for name in _UNUSUAL)
        ):
            return
        sent = data[:end]
        if len(self._known) >= _MAX_HEADS or len(self._seen) >= _MAX_HEADS:
            self._known.clear()
            self._seen.clear()
        if hash(sent) in self._seen:
            self._known[sent] = Known(read, sorted_out(self._handler, read), len(data))
        else:
            self._seen.add(hash(sent))
