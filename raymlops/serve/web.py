"""A request and its answer as plain values, and the table that finds who answers.

    server --Request--> Routes --> handler ... --Response--> reply --> server

A handler calls `reply` exactly once, now or later, from the event loop it was called on. Callbacks
rather than coroutines, since a task a request would cost more than everything else that is done
for it; `later` makes a handler of a coroutine where that does not matter. Two servers speak this:
`raymlops.serve.asgi`, behind Ray Serve's proxy, and `raymlops.serve.http`, on a port of its own.
"""

from __future__ import annotations

import asyncio
import logging
import math
import re
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping

import msgspec
import orjson

from raymlops.errors import RequestError

_logger = logging.getLogger(__name__)

_MAX_REMEMBERED_PATHS = 256
LONGEST_REMEMBERED = 512
"""Characters of a path that is remembered: a stranger could fill memory with longer ones."""


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


Reply = Callable[[Response], None]
Handler = Callable[[Request, Reply], None]
Admit = Callable[[Request], Response | None]
"""Refuses a request by its head alone, before any of its body is read; None lets it in."""
Refused = Callable[[Request, Response], None]
"""Is told of a request that was answered with an error before any handler had it."""


class Sorting(ABC):
    """A handler that tells by the head of a request alone who answers it.

    A server that reads the same head again and again need ask only once.
    """

    @abstractmethod
    def sort(self, head: Request) -> Handler:
        """Who answers a request with that head, whose `params` are filled in."""

    def __call__(self, request: Request, reply: Reply) -> None:
        self.sort(request)(request, reply)


def sorted_out(handler: Handler, head: Request) -> Handler:
    """Who answers a request with that head in the end."""
    while isinstance(handler, Sorting):
        handler = handler.sort(head)
    return handler


class Routes(Sorting):
    """A handler that hands each request on to the first route that fits its path.

    routes.add("POST", "/v2/models/{model}/infer", infer)

    A `{name}` stands for a part of one segment, `{name:path}` for any number of them. HEAD is
    answered as GET, without a body, unless a route says otherwise. What a handler raises becomes
    an answer: RequestError its own status, anything else a 500 whose reason is in the log alone.
    """

    def __init__(self) -> None:
        self._handlers: dict[str, dict[str, Handler]] = {}
        self._patterns: dict[str, re.Pattern[str]] = {}
        self._remembered: dict[tuple[str, str], tuple[Handler, Mapping[str, str]]] = {}

    def add(self, method: str, pattern: str, handler: Handler) -> None:
        methods = self._handlers.setdefault(pattern, {})
        if method in methods:
            raise ValueError(f"{method} {pattern} has a handler already")
        methods[method] = _guarded(handler)
        self._patterns[pattern] = _compile(pattern)

    def sort(self, head: Request) -> Handler:
        found = self._remembered.get((head.method, head.path))
        handler, head.params = found or self._find(head.method, head.path)
        return handler

    def _find(self, method: str, path: str) -> tuple[Handler, Mapping[str, str]]:
        found = self._search(method, path)
        if len(path) > LONGEST_REMEMBERED:
            return found
        if len(self._remembered) >= _MAX_REMEMBERED_PATHS:
            self._remembered.clear()
        self._remembered[method, path] = found
        return found

    def _search(self, method: str, path: str) -> tuple[Handler, Mapping[str, str]]:
        allowed: list[str] = []
        for pattern, methods in self._handlers.items():
            if (match := self._patterns[pattern].fullmatch(path)) is None:
                continue
            handler = methods.get(method)
            if handler is None and method == "HEAD":
                handler = methods.get("GET")
            if handler is not None:
                return handler, match.groupdict()
            allowed += methods
        if not allowed:
            return _refusing(Response.error(404, f"there is nothing at {path}")), {}
        allow = ", ".join(dict.fromkeys(allowed))
        refusal = Response.error(405, f"the method must be {allow}", ("allow", allow))
        return _refusing(refusal), {}


async def answered(handler: Handler, request: Request) -> Response:
    """What `handler` replies; it is told when nobody waits for that any more."""
    answer: asyncio.Future[Response] = asyncio.get_running_loop().create_future()

    def reply(response: Response) -> None:
        if not answer.cancelled():
            answer.set_result(response)

    handler(request, reply)
    try:
        return await answer
    finally:
        if answer.cancelled():
            request.abandon()


def later(handle: Callable[[Request], Awaitable[Response]]) -> Handler:
    """A handler that awaits `handle` in a task, which ends when the client leaves."""
    tasks: set[asyncio.Task[None]] = set()

    async def answer(request: Request, reply: Reply) -> None:
        try:
            response = await handle(request)
        except RequestError as error:
            response = Response.refusal(error)
        except Exception:  # as in `Routes`
            _logger.exception("%s %s failed", request.method, request.path)
            response = Response.error(500, "internal error, logged")
        reply(response)

    def handler(request: Request, reply: Reply) -> None:
        task = asyncio.get_running_loop().create_task(answer(request, reply))
        tasks.add(task)  # the loop itself would let it be collected
        task.add_done_callback(tasks.discard)

        def stop() -> None:
            task.cancel()

        request.on_gone = stop

    return handler


def untold(_: Request, __: Response) -> None:
    """In place of who is told of what is refused."""


def unicode_of(message: str) -> str:
    """`message` as UTF-8 can write it: it may quote lone surrogates, which JSON can."""
    return message.encode("utf-8", "replace").decode()


def _guarded(handler: Handler) -> Handler:
    """`handler`, and an answer also where it raises."""

    def handle(request: Request, reply: Reply) -> None:
        try:
            handler(request, reply)
        except RequestError as error:
            reply(Response.refusal(error))
        except Exception:  # the boundary of the process: log all of it, show none of it
            _logger.exception("%s %s failed", request.method, request.path)
            reply(Response.error(500, "internal error, logged"))

    return handle


def _refusing(response: Response) -> Handler:
    return lambda _, reply: reply(response)


def _compile(pattern: str) -> re.Pattern[str]:
    text, end = "", 0
    for name in re.finditer(r"\{(\w+)(:path)?\}", pattern):
        part = ".+" if name[2] else "[^/]+?"
        text += f"{re.escape(pattern[end : name.start()])}(?P<{name[1]}>{part})"
        end = name.end()
    return re.compile(text + re.escape(pattern[end:]), re.DOTALL)
