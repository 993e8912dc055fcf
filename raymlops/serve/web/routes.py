"""The table that finds who answers a path."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping

from raymlops.errors import RequestError
from raymlops.serve.web.handlers import Handler, Reply, Sorting
from raymlops.serve.web.messages import Request, Response

_logger = logging.getLogger(__name__)

_MAX_REMEMBERED_PATHS = 256
LONGEST_REMEMBERED = 512
"""Characters of a path that is remembered: a stranger could fill memory with longer ones."""


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


def _guarded(handler: Handler) -> Handler:
    """`handler`, and an answer also where it raises."""
    if isinstance(handler, Sorting):
        return _Guarded(handler)

    def handle(request: Request, reply: Reply) -> None:
        try:
            handler(request, reply)
        except RequestError as error:
            reply(Response.refusal(error))
        except Exception:  # the boundary of the process: log all of it, show none of it
            _logger.exception("%s %s failed", request.method, request.path)
            reply(Response.error(500, "internal error, logged"))

    return handle


class _Guarded(Sorting):
    """The same of one that tells by the head who answers, and may refuse it by raising
    RequestError."""

    def __init__(self, handler: Sorting) -> None:
        self._handler = handler

    def sort(self, head: Request) -> Handler:
        try:
            return _guarded(self._handler.sort(head))
        except RequestError as error:
            return _refusing(Response.refusal(error))


def _refusing(response: Response) -> Handler:
    return lambda _, reply: reply(response)


def _compile(pattern: str) -> re.Pattern[str]:
    text, end = "", 0
    for name in re.finditer(r"\{(\w+)(:path)?\}", pattern):
        part = ".+" if name[2] else "[^/]+?"
        text += f"{re.escape(pattern[end : name.start()])}(?P<{name[1]}>{part})"
        end = name.end()
    return re.compile(text + re.escape(pattern[end:]), re.DOTALL)
