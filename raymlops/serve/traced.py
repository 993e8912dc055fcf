"""Requests under the trace of who sent them."""

from __future__ import annotations

from msgspec.structs import replace

from raymlops.serve.web import Handler, Reply, Request, Response
from raymlops.telemetry import trace

_HEADER = "traceparent"


def traced(handler: Handler) -> Handler:
    """`handler` under the trace of the request's `traceparent`, which the answer carries on."""

    def handle(request: Request, reply: Reply) -> None:
        found = None
        if (header := request.headers.get(_HEADER)) is not None:
            found = trace.parse(header)
        if found is None:
            handler(request, reply)
            return

        def answer(response: Response) -> None:
            reply(replace(response, headers=(*response.headers, (_HEADER, found.traceparent))))

        token = trace.current.set(found)
        try:
            handler(request, answer)
        finally:
            trace.current.reset(token)

    return handle
