"""Who is let in over gRPC: the same gate as over HTTP, asked before a message is read."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import grpc
import grpc.aio

from raymlops.serve.protocols.open_inference.grpc.health import HEALTH
from raymlops.serve.protocols.open_inference.grpc.messages import SERVICE
from raymlops.serve.protocols.open_inference.grpc.statuses import refuse
from raymlops.serve.web import Admit, Refused, Request, Response

_HEALTH = {
    f"/{SERVICE}/ServerLive": "live",
    f"/{SERVICE}/ServerReady": "ready",
    f"/{HEALTH}/Check": "ready",
}

Continue = Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler]]


class Access(grpc.aio.ServerInterceptor):  # type: ignore[misc]  # grpc has no types
    """Asks `admit` about each call as if it came over HTTP to the model; its metadata are the
    headers. `refused` is told of those that are not let in."""

    def __init__(self, model: str, admit: Admit, refused: Refused) -> None:
        self._model = model
        self._admit = admit
        self._refused = refused

    async def intercept_service(
        self, continuation: Continue, details: grpc.HandlerCallDetails
    ) -> grpc.RpcMethodHandler:
        health = _HEALTH.get(details.method)
        path = f"/v2/health/{health}" if health else f"/v2/models/{self._model}/infer"
        headers = {name: value for name, value in details.invocation_metadata if type(value) is str}
        request = Request("POST", path, headers=headers)
        if (refusal := self._admit(request)) is None:
            return await continuation(details)
        self._refused(request, refusal)
        return _refusing(refusal)


def _refusing(response: Response) -> grpc.RpcMethodHandler:
    async def answer(_: Any, context: grpc.aio.ServicerContext) -> Any:
        await refuse(context, response.status, response.reason)

    return grpc.stream_unary_rpc_method_handler(answer)  # which reads no message before
