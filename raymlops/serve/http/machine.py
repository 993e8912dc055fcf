"""One HTTP/1.1 connection as a state machine: bytes in, requests to a handler, bytes out.

    feed(bytes) --> llhttp --> Request --> handler ... reply(Response) --> write(bytes)
                                           (later, in any order)   (in the order of the requests)

It owns no socket and no clock, so that any way of cutting the bytes can be tried. Framing is
llhttp's; limits and how a connection ends are here, the order of the answers is in `replies`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sized
from typing import NamedTuple, NoReturn
from urllib.parse import unquote

import httptools

from raymlops.serve.http import framing
from raymlops.serve.http.encode import Encoder
from raymlops.serve.http.heads import Heads, Known
from raymlops.serve.http.limits import HttpLimits, Phase
from raymlops.serve.http.replies import Replies, Slot
from raymlops.serve.web import Admit, Handler, Refused, Request, Response, untold

_logger = logging.getLogger(__name__)

Belongs = Callable[[str], bool]
"""Whether requests for that path are answered in this process."""

_NAMES = {
    name.encode(): name.lower()
    for name in (
        "Host", "Content-Length", "Content-Type", "Accept", "Accept-Encoding", "Connection",
        "User-Agent", "Authorization", "host", "content-length", "content-type", "accept",
        "accept-encoding", "connection", "user-agent", "authorization", "x-api-key",
    )
}  # fmt: skip
# Once for all: a member of an enum takes three times as long to look up as a name.
_IDLE, _HEAD, _BODY, _DONE = Phase
_SKIPPABLE_BYTES = 64 * 1024
"""A refused body up to this size is read and dropped, which costs less than a new connection."""
_MAX_PARTS = 1024
"""A body in more parts than that is gathered as it comes: an object for each would hold thirty
times as much memory as the body itself, where a client cuts it into chunks of two bytes."""


class Strayed(NamedTuple):
    """A request that does not belong here: the path it asks for, and all that was read of it."""

    path: str
    read: bytes


class Machine:
    """`write` is called with bytes to send, `settle` after what was answered has been written.

    `is_over` says that the connection should end; `strayed` holds a first request that does not
    belong here, once one came; of `unanswered` requests the answer is not written yet, and one of
    them may not be read to its end.
    """

    def __init__(
        self,
        handler: Handler,
        write: Callable[[bytes], None],
        settle: Callable[[], None],
        *,
        encoder: Encoder,
        limits: HttpLimits,
        heads: Heads | None = None,
        admit: Admit | None = None,
        refused: Refused = untold,
        belongs: Belongs | None = None,
        peer: str = "",
    ) -> None:
        self.phase: Phase = _IDLE
        self.num_requests = 0
        self.strayed: Strayed | None = None
        self._handler = handler
        self._replies = Replies(write, settle, self._stop_reading, encoder)
        self.unanswered: Sized = self._replies.slots
        self._limits = limits
        self._heads = Heads(handler, admit) if heads is None else heads
        self._admit = admit
        self._refused = refused
        self._belongs = belongs
        self._peer = peer
        self._parser = httptools.HttpRequestParser(self)
        self._refusal: Response | None = None
        self._chunks: list[bytes] | None = None
        self._has_begun = False
        self._reading: Slot | None = None
        self._begin()

    def feed(self, data: bytes) -> None:
        """Reads what came from the client; answers are written as soon as they are due."""
        if self.phase is _DONE:
            return
        begins = self.phase is _IDLE
        if begins and (known := self._heads.find(data)) is not None and self._take(known, data):
            return
        before = self._position
        if self._belongs is not None:
            self._keep(data)
        try:
            self._parse(data)
        except httptools.HttpParserError as error:
            if self._has_open_end:
                self.refuse(self._refusal or _reason(error))
        if self._position == before:
            if self.phase in (_HEAD, _BODY):
                self._check_line(len(data))
        else:
            self._fed_in_line = 0
            if begins and self.phase is _IDLE and self.num_requests == before[0] + 1:
                self._learn(data)

    def refuse(self, response: Response) -> None:
        """Answers what is being read with `response`, the last one, and reads no more."""
        slot = self._reading
        if slot is None or slot.is_answered:
            slot = self._replies.open()
        self._stop_reading()
        slot.closes = True
        slot.reply(response)
        if slot.request is not None:
            self._refused(slot.request, response)

    def finish(self) -> None:
        """Ends the connection after the requests that were received: each is answered."""
        self._replies.is_closing = True
        if self.phase is _IDLE:
            self.phase = _DONE

    def lose(self) -> None:
        """The client has gone: whoever works on its requests is told.

        What would hold the connection in a cycle is let go of, so that no search for garbage has
        to find it."""
        self.phase = _DONE
        self._replies.lose()
        del self._parser
        self._reading = None

    @property
    def _position(self) -> tuple[int, Phase, int, int]:
        """Goes on with every whole header, and with every byte of a body."""
        return self.num_requests, self.phase, self._head_bytes, self._body_size

    @property
    def _has_open_end(self) -> bool:
        """Whether the client is owed a word about what it sent last."""
        return self.phase is not _DONE and self.strayed is None

    @property
    def unfinished_bytes(self) -> int:
        """Of a body that is not complete."""
        return self._body_size if self.phase is _BODY else 0

    @property
    def is_between_requests(self) -> bool:
        """Whether nothing of the client's is held here, so that another could go on reading."""
        return self.phase is _IDLE and not self.unanswered and not self._replies.is_closing

    @property
    def is_over(self) -> bool:
        return self.phase is _DONE and not self.unanswered

    # What llhttp calls.

    def on_message_begin(self) -> None:
        if self.phase is _DONE:
            raise _StopError
        self._begin()
        self.phase = _HEAD
        if self._chunks is not None and self._has_begun:
            self._chunks = None  # where this request begins within what was read is not known
        self._has_begun = True

    def on_url(self, part: bytes) -> None:
        self._url += part
        self._head_bytes += len(part)
        if self._head_bytes > self._limits.max_head_bytes:
            self._stop_too_long(414)

    def on_header(self, name: bytes, value: bytes) -> None:
        self._head_bytes += len(name) + len(value)
        if self._head_bytes > self._limits.max_head_bytes:
            self._stop_too_long(431)
        if self.phase is _BODY:
            return  # a trailer
        key = _NAMES.get(name) or name.decode("latin-1").lower()
        text = value.decode("latin-1")
        headers = self._headers
        if key in headers:
            text = f"{headers[key]}, {text}"
        elif len(headers) >= self._limits.max_headers:
            self._stop(431, f"there are more than {self._limits.max_headers} headers")
        headers[key] = text

    def on_headers_complete(self) -> None:
        if self._parser.should_upgrade():
            if self._parser.get_method() == b"CONNECT":
                self._stop(501, "CONNECT is not understood, this is no proxy")
            return  # the head comes again, without its offer
        request = self._request()
        if self._belongs is not None and not self._belongs(request.path):
            self._stray(request)
        self.phase = _BODY
        self._reading = slot = self._replies.open(request)
        self._newest = request
        self._check_framing()
        # HTTP/1.0 would have to be told of a connection that stays open.
        is_current = self._parser.get_http_version() == "1.1"
        slot.closes = not (is_current and self._parser.should_keep_alive())
        refusal = None if self._admit is None else self._admit(request)
        if refusal is not None:
            self._refuse_head(slot, refusal)
        elif is_current and "expect" in self._headers:
            slot.continues = True
            self._replies.proceed()

    def on_body(self, part: bytes) -> None:
        self._body_size += len(part)
        self._check_body_size(self._body_size)
        body = self._body
        if len(body) < _MAX_PARTS:
            body.append(part)
        elif len(body) == _MAX_PARTS:
            body.append(bytearray(part))
        else:
            body[-1] += part

    def on_message_complete(self) -> None:
        if self._parser.should_upgrade():
            return  # as above
        slot = self._reading
        assert slot is not None
        assert slot.request is not None
        self.phase = _IDLE
        self.num_requests += 1
        if slot.closes or self._replies.is_closing:
            slot.closes = True
            self.phase = _DONE
        if slot.refusal is not None:
            slot.reply(slot.refusal)
            self._refused(slot.request, slot.refusal)
        else:
            slot.request.body = b"".join(self._body)  # of one part, the part itself
            slot.continues = False
            self._call(self._handler, slot, slot.request)
        self._reading = None

    # Reading.

    def _parse(self, data: bytes) -> None:
        rest = memoryview(data)
        while rest:
            try:
                self._parser.feed_data(rest)
            except httptools.HttpParserUpgrade as offer:
                rest = rest[offer.args[0] :]
                self._decline_upgrade()
            else:
                return

    def _decline_upgrade(self) -> None:
        """Reads the newest head once more, as if it offered no other protocol.

        Of a head that does, llhttp takes all that follows for that protocol, and skips the body.
        Clients offer HTTP/2 in any request, and send it as HTTP/1.1 none the less.
        """
        method, version = self._parser.get_method(), self._parser.get_http_version()
        head = framing.without_offer(method, self._url, version, self._headers)
        self._has_begun = False
        self._parser = httptools.HttpRequestParser(self)
        self._parser.feed_data(head)

    def _begin(self) -> None:
        self._url = b""
        self._headers: dict[str, str] = {}
        self._head_bytes = 0
        self._fed_in_line = 0
        self._body: list[bytes | bytearray] = []
        self._body_size = 0
        self._reading = None

    def _learn(self, data: bytes) -> None:
        """Remembers the head of the request that `data` was; of that itself, which a handler may
        go on changing, nothing is kept."""
        read = self._newest
        head = Request(read.method, read.path, read.query, self._headers)
        self._heads.learn(data, head, self._body_size)

    def _take(self, known: Known, data: bytes) -> bool:
        """Has the whole request in `data` answered, whose head was read before; False when it is
        not for here, or no more."""
        head, handler, ticket, start, _ = known
        if self._belongs is not None and not self._belongs(head.path):
            return False
        body = data[start:]
        request = Request(
            head.method, head.path, head.query, head.headers, body, self._peer, head.params
        )
        slot = self._replies.open(request)
        self.num_requests += 1
        if self._replies.is_closing:
            slot.closes = True
            self.phase = _DONE
        if (refusal := ticket()) is not None:
            slot.reply(refusal)
            self._refused(request, refusal)
        else:
            self._call(handler, slot, request)
        return True

    def _call(self, handler: Handler, slot: Slot, request: Request) -> None:
        try:
            handler(request, slot.reply)
        except Exception:  # the boundary of the process: log all of it, show none of it
            _logger.exception("a request could not be handled")
            self._reading = slot
            self.refuse(Response.error(500, "internal error, logged"))

    def _keep(self, data: bytes) -> None:
        """Holds on to what was read since the request began, unless others came before it."""
        if self.phase is _IDLE:
            self._chunks = None if self.unanswered else [data]
            self._has_begun = False
        elif self.phase is _HEAD and self._chunks is not None:
            self._chunks.append(data)

    def _stray(self, request: Request) -> None:
        if self._chunks is None:
            self._stop(421, f"{request.path} is not answered on this connection; open another")
        self.strayed = Strayed(request.path, b"".join(self._chunks))
        self._stop_reading()
        raise _StopError

    def _stop_reading(self) -> None:
        self.phase = _DONE
        self._reading = None

    def _request(self) -> Request:
        url = self._url
        if not url.startswith(b"/"):
            url = framing.origin_form(url)
        path, _, query = url.partition(b"?")
        return Request(
            method=self._parser.get_method().decode("ascii"),
            path=unquote(path.decode("latin-1")) if b"%" in path else path.decode("latin-1"),
            query=query.decode("latin-1"),
            headers=self._headers,
            peer=self._peer,
        )

    def _check_framing(self) -> None:
        self._refusal = framing.refusal(self._parser.get_http_version(), self._headers)
        if self._refusal is not None:
            raise _StopError
        if (size := self._headers.get("content-length")) is not None:
            self._check_body_size(int(size))

    def _refuse_head(self, slot: Slot, refusal: Response) -> None:
        """A small body is read and dropped; for a larger one the connection ends."""
        headers = self._headers
        small = int(headers.get("content-length", 0)) <= _SKIPPABLE_BYTES
        if not small or "transfer-encoding" in headers or "expect" in headers:
            self._refusal = refusal
            raise _StopError
        slot.refusal = refusal

    def _check_line(self, size: int) -> None:
        """Bounds what llhttp holds of a header or trailer that has no end; `on_header` is exact,
        but late. Each piece of such a line costs as much as all before it."""
        self._fed_in_line += size
        if self._fed_in_line > self._limits.max_head_bytes:
            self.refuse(self._too_long(431))

    def _stop_too_long(self, status: int) -> NoReturn:
        self._refusal = self._too_long(status)
        raise _StopError

    def _too_long(self, status: int) -> Response:
        return Response.error(
            status, f"the head is larger than {self._limits.max_head_bytes} bytes"
        )

    def _check_body_size(self, size: int) -> None:
        if size > self._limits.max_body_bytes:
            self._stop(413, f"the body is larger than {self._limits.max_body_bytes} bytes")

    def _stop(self, status: int, message: str) -> NoReturn:
        self._refusal = Response.error(status, message)
        raise _StopError


class _StopError(Exception):
    """Stops llhttp; what is to be said is in the machine."""


def _reason(error: httptools.HttpParserError) -> Response:
    if isinstance(error, httptools.HttpParserCallbackError):
        _logger.error("a request could not be handled", exc_info=error.__context__)
        return Response.error(500, "internal error, logged")
    return Response.error(400, f"this is not HTTP/1.1: {error}")
