"""The ASGI application of one model: the Open Inference Protocol below /v2/models/{model}."""

from __future__ import annotations

import logging
import time

from raymlops.errors import RequestError
from raymlops.serve import protocol
from raymlops.serve.arms import Arms
from raymlops.serve.asgi import (
    ClientGoneError,
    Receive,
    Response,
    Scope,
    Send,
    read_body,
    send_json,
)
from raymlops.serve.exchange import Exchange, Record

_logger = logging.getLogger(__name__)


class ModelApp:
    """Answers HTTP requests from `arms`, and tells `record` of each that asked to infer."""

    def __init__(self, model: str, arms: Arms, record: Record, *, max_body_bytes: int) -> None:
        self._model = model
        self._arms = arms
        self._record = record
        self._max_body_bytes = max_body_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        method = scope["method"]
        match scope["path"].split("/")[1:]:
            case ["v2", "models", model, *_] if model != self._model:
                await send_json(send, Response.error(404, f"this is not model '{model}'"))
            case ["v2", "models", _, "infer"]:
                await self._infer(scope, receive, send, version=None)
            case ["v2", "models", _, "versions", version, "infer"]:
                await self._infer(scope, receive, send, version=version)
            case ["v2", "models", _, *rest]:
                await send_json(send, self._describe(method, scope["path"], rest))
            case _:
                await send_json(send, Response.not_found(scope["path"]))

    async def _infer(
        self, scope: Scope, receive: Receive, send: Send, *, version: str | None
    ) -> None:
        if scope["method"] != "POST":
            await send_json(send, Response.not_allowed("POST"))
            return
        started = time.perf_counter()
        exchange = Exchange()
        try:
            body = await read_body(scope, receive, max_bytes=self._max_body_bytes)
            response = Response(200, await self._answer(body, version, exchange))
        except ClientGoneError:
            return
        except RequestError as error:
            response = Response.error(error.status, error.message)
        except Exception:  # the boundary of the process: log all of it, show none of it
            request_id = exchange.request.id if exchange.request else "unknown"
            _logger.exception("request %s failed", request_id)
            response = Response.error(500, f"internal error, logged for request {request_id}")
        await send_json(send, response)
        exchange.status = response.status
        exchange.latency_s = time.perf_counter() - started
        self._record(exchange)

    async def _answer(self, body: bytes, version: str | None, exchange: Exchange) -> bytes:
        request = protocol.parse_infer(body, now=exchange.at)
        exchange.request = request
        arm, loaded = (
            self._arms.of_key(request.key) if version is None else self._arms.of_version(version)
        )
        exchange.arm, exchange.version = arm, loaded
        columns = protocol.read_columns(request, loaded.signature)
        exchange.columns = columns
        outputs = await loaded.batcher.submit(columns)
        exchange.outputs = outputs
        return protocol.encode_infer(
            request,
            outputs,
            model=self._model,
            version=loaded.version,
            arm=arm,
            signature=loaded.signature,
        )

    def _describe(self, method: str, path: str, rest: list[str]) -> Response:
        try:
            match rest:
                case [] | ["ready"]:
                    _, loaded = self._arms.of_key("")
                case ["versions", version] | ["versions", version, "ready"]:
                    _, loaded = self._arms.of_version(version)
                case _:
                    return Response.not_found(path)
        except RequestError as error:
            return Response.error(error.status, error.message)
        if method != "GET":
            return Response.not_allowed("GET")
        if rest[-1:] == ["ready"]:
            return Response(200, protocol.encode_ready(self._model))
        versions = self._arms.versions if not rest else (loaded.version,)
        return Response(200, protocol.encode_metadata(self._model, versions, loaded.signature))
