"""Requests under the trace of who sent them."""

from __future__ import annotations

from msgspec.structs import replace

from raymlops.serve.web import Handler, Reply, Request, Response, Sorting
from raymlops.telemetry import trace

_HEADER = "traceparent"


class Traced(Sorting):
    """`handler` under the trace of the request's `traceparent`, which the answer carries on."""

    def __init__(self, handler: Handler) -> None:
        self._handler = handler

    def sort(self, head: Request) -> Handler:
        return self._trace if _HEADER in head.headers else self._handler

    def _trace(self, request: Request, reply: Reply) -> None:
        found = trace.parse(request.headers[_HEADER])
        if found is None:
            self._handler(request, reply)
            return

        def answer(response: Response) -> None:
            headers = (*response.headers, (_HEADER, found.traceparent))
            reply(replace(response, headers=headers))

        token = trace.current.set(found)
        try:
            self._handler(request, answer)
        finally:
            trace.current.reset(token)
