"""HTTP's statuses, by which everything here refuses, as gRPC's."""

from __future__ import annotations

from typing import NoReturn

import grpc
import grpc.aio

from raymlops.serve.web import unicode_of

_STATUS = {
    400: grpc.StatusCode.INVALID_ARGUMENT,
    401: grpc.StatusCode.UNAUTHENTICATED,
    403: grpc.StatusCode.PERMISSION_DENIED,
    404: grpc.StatusCode.NOT_FOUND,
    408: grpc.StatusCode.DEADLINE_EXCEEDED,
    413: grpc.StatusCode.RESOURCE_EXHAUSTED,
    429: grpc.StatusCode.RESOURCE_EXHAUSTED,
    503: grpc.StatusCode.UNAVAILABLE,
    504: grpc.StatusCode.DEADLINE_EXCEEDED,
}


async def refuse(context: grpc.aio.ServicerContext, status: int, message: str) -> NoReturn:
    """Ends the call; `message` may quote what is not valid Unicode."""
    code = _STATUS.get(status, grpc.StatusCode.INTERNAL)
    await context.abort(code, unicode_of(message))
    raise AssertionError("abort raises")
