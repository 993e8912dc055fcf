"""Asks a handler of this process as `Client` asks a server, without a network."""

from __future__ import annotations

from datetime import datetime
from urllib.parse import unquote

from raymlops.errors import RequestError
from raymlops.serve.client.messages import Answer, Columns, Reply, answer_of, infer_call
from raymlops.serve.web import Handler, Request, answered


async def infer_directly(
    handler: Handler,
    model: str,
    columns: Columns,
    *,
    request_id: str | None = None,
    key: str | None = None,
    event_time: datetime | None = None,
    version: str | None = None,
) -> Answer:
    """The same as `Client.infer`, by the same messages.

    Raises:
        RequestError: the request is refused.
    """
    call = infer_call(
        model,
        columns,
        request_id=request_id,
        key=key,
        event_time=event_time,
        version=version,
    )
    path = unquote(call.path)  # as servers give it
    request = Request(call.method, path, body=call.body, headers=call.headers)
    response = await answered(handler, request)
    headers = {"content-type": response.content_type, **dict(response.headers)}
    reply = Reply(status=response.status, headers=headers, body=bytes(response.body))
    if reply.status != 200:
        raise RequestError(reply.status, reply.error)
    return answer_of(reply)
