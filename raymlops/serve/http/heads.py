"""Heads of requests that were read before: a client sends the same one again and again.

Most of what HTTP asks of a server is to read heads. What llhttp made of one depends on its bytes
alone, so one that comes a third time is looked up; only requests that came as a whole, with a body
of a length that their head gave, are remembered.
"""

from __future__ import annotations

from typing import NamedTuple

from raymlops.serve.web import Admit, Handler, Request, Ticket, sorted_out, ticket_of

_END = b"\r\n\r\n"
_END_SIZE = len(_END)
_MAX_HEADS = 1024
_MAX_BYTES = 2048
_UNUSUAL = ("transfer-encoding", "expect")


class Known(NamedTuple):
    """`head` is a request without its body, which `handler` answers while `ticket` lets it in;
    `start` is where the body begins, and `size` that of the whole."""

    head: Request
    handler: Handler
    ticket: Ticket
    start: int
    size: int


class Heads:
    """The heads that the connections of a server share, whose requests `handler` answers, or to
    whom that sorts them, where `admit` lets them in; how much it holds is bounded."""

    def __init__(self, handler: Handler, admit: Admit | None = None) -> None:
        self._handler = handler
        self._admit = admit
        self._known: dict[bytes, Known] = {}
        self._seen: set[int] = set()

    def find(self, data: bytes) -> Known | None:
        """What is known of `data`, if that is one whole request whose head came before."""
        known = self._known.get(data[: data.find(_END, 0, _MAX_BYTES) + _END_SIZE])
        return known if known is not None and known.size == len(data) else None

    def learn(self, data: bytes, read: Request, body_size: int) -> None:
        """`data` was read as the head `read` and so long a body, and nothing else.

        A head is kept when it comes for the second time: many never do, since they hold an id.
        """
        end = data.find(_END, 0, _MAX_BYTES) + _END_SIZE
        headers = read.headers
        if (
            end < _END_SIZE
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
            handler = sorted_out(self._handler, read)
            self._known[sent] = Known(read, handler, ticket_of(self._admit, read), end, len(data))
        else:
            self._seen.add(hash(sent))
