"""A gRPC server of one model, on the event loop of its replica."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from operator import methodcaller
from typing import Any

import grpc
import grpc.aio
import orjson
from google.protobuf.message import DecodeError

from raymlops.errors import ClusterError, RequestError
from raymlops.serve.door.tls import Encryption, TlsFiles
from raymlops.serve.http import HttpLimits
from raymlops.serve.inference import Inference
from raymlops.serve.process.descriptors import most_open
from raymlops.serve.protocols.open_inference import describe
from raymlops.serve.protocols.open_inference.grpc.access import Access
from raymlops.serve.protocols.open_inference.grpc.ask import parse_message
from raymlops.serve.protocols.open_inference.grpc.health import (
    HEALTH,
    HealthCheckRequest,
    check,
)
from raymlops.serve.protocols.open_inference.grpc.messages import (
    SERVICE,
    request_class,
    response_class,
)
from raymlops.serve.protocols.open_inference.grpc.receiving import Receiving
from raymlops.serve.protocols.open_inference.grpc.statuses import refuse
from raymlops.serve.protocols.open_inference.service import Service
from raymlops.serve.web import Admit, Request, Response
from raymlops.telemetry import trace

_logger = logging.getLogger(__name__)

# The envelope of a message: names, shapes and framing around the tensors' own bytes.
_ENVELOPE_BYTES = 64 * 1024

_TRACE = "traceparent"

_AGE_S = 600.0
"""After so long a connection is asked to begin anew, as its client does unnoticed: by then there
may be other replicas, which would get none of those that there are."""

_MOST_PENDING = 8192
"""Calls that wait for this process to look at them, about 15 KB each. Of more than 1,000 grpc
cancels some unless it is told so, and to a client that looks like a cancellation of its own."""


class GrpcServer:
    """Serves `inference`; several replicas of a node may share an address, and get connections
    in turn.

    Args:
        limits: what one client may use.
        admit: refuses calls by their metadata, e.g. for want of a key.
        tls: lets in encrypted connections only.
    """

    def __init__(
        self,
        inference: Inference,
        *,
        limits: HttpLimits,
        admit: Admit | None = None,
        tls: TlsFiles | None = None,
    ) -> None:
        self._inference = inference
        self._limits = limits
        self._receiving = Receiving(limits)
        self._admit = admit
        self._tls = tls
        self._server: grpc.aio.Server | None = None

    async def start(self, host: str, port: int) -> int:
        """Listens, and returns the port, which is any free one when `port` is 0.

        Raises:
            ClusterError: the address cannot be had.
        """
        server = self._make()
        try:
            bound = self._bind(server, f"{host}:{port}")
        except RuntimeError as error:
            raise ClusterError(f"gRPC cannot listen on {host}:{port}: {error}") from error
        await server.start()
        self._server = server
        return bound

    def _make(self) -> grpc.aio.Server:
        inference, access = self._inference, []
        if self._admit is not None:
            access.append(Access(inference.model, self._admit, inference.refused))
        server = grpc.aio.server(
            interceptors=access,
            options=_options(self._limits),
        )
        service = Service(self._inference)
        handlers = {
            name: self._handler(f"/{SERVICE}/{name}", request_class(name), method)
            for name, method in _methods(service).items()
        }
        healthy = self._handler(
            f"/{HEALTH}/Check", HealthCheckRequest, lambda request, _: check(service, request)
        )
        server.add_generic_rpc_handlers(
            (
                grpc.method_handlers_generic_handler(SERVICE, handlers),
                grpc.method_handlers_generic_handler(HEALTH, {"Check": healthy}),
            )
        )
        return server

    def _handler(self, path: str, kind: type[Any], method: Method) -> grpc.RpcMethodHandler:
        """Of a call at `path`, with a message of that kind."""
        read, receiving, refused = kind.FromString, self._receiving, self._inference.refused

        async def call(_: Any, context: grpc.aio.ServicerContext) -> Any:
            try:
                answer = method(read(await receiving.message(context)), context)
                return await answer if isinstance(answer, asyncio.Future) else answer
            except RequestError as error:
                await refuse(context, error.status, error.message)
            except DecodeError as error:
                refusal = Response.error(400, f"this is no {kind.DESCRIPTOR.name}: {error}")
                refused(Request("POST", path), refusal)
                await refuse(context, refusal.status, refusal.reason)
            except Exception:  # the boundary of the process: log all of it, show none of it
                _logger.exception("%s failed", path)
                await refuse(context, 500, "internal error, logged")

        # Read here, as grpc would log a traceback for each message that somebody has garbled, and
        # wait for ever for the end of one.
        return grpc.stream_unary_rpc_method_handler(
            call,
            response_serializer=methodcaller("SerializeToString"),
        )

    def _bind(self, server: grpc.aio.Server, address: str) -> int:
        if self._tls is None:
            port: int = server.add_insecure_port(address)
            return port
        self._tls.context()  # which tells what does not fit
        port = server.add_secure_port(address, _credentials(Encryption(self._tls)))
        return port

    async def stop(self, grace_s: float) -> None:
        """Takes no more requests, and ends those that last longer than `grace_s`."""
        if self._server is not None:
            await self._server.stop(grace_s)


def _options(limits: HttpLimits) -> list[tuple[str, int]]:
    """What grpc has to bound its clients by. Its `max_concurrent_streams` is not among it: of a
    burst beyond that some calls are reset."""
    return [
        ("grpc.max_receive_message_length", limits.max_body_bytes + _ENVELOPE_BYTES),
        ("grpc.max_send_message_length", -1),
        ("grpc.so_reuseport", 1),
        ("grpc.server.max_pending_requests", _MOST_PENDING),
        ("grpc.server.max_pending_requests_hard_limit", _MOST_PENDING),
        ("grpc.max_allowed_incoming_connections", most_open(limits.max_connections)),
        ("grpc.server_handshake_timeout_ms", _ms(limits.head_timeout_s)),
        ("grpc.http2.settings_timeout", _ms(limits.head_timeout_s)),
        ("grpc.max_connection_idle_ms", _ms(limits.idle_timeout_s)),
        ("grpc.max_connection_age_ms", _ms(_AGE_S)),
        ("grpc.max_connection_age_grace_ms", _ms(limits.body_timeout_s)),
    ]


def _ms(seconds: float) -> int:
    return round(1000.0 * seconds)


def _credentials(encryption: Encryption) -> grpc.ServerCredentials:
    """Those of the files as they are when somebody connects."""

    def now() -> grpc.ServerCertificateConfiguration:
        pair = encryption.key, encryption.certificate
        return grpc.ssl_server_certificate_configuration([pair])

    return grpc.dynamic_ssl_server_credentials(now(), lambda: now() if encryption.renew() else None)


def _with_parameters(tensor: Mapping[str, Any]) -> dict[str, Any]:
    """Metadata of a tensor as a message has them: a parameter is one value, so a list is JSON."""
    given = tensor.get("parameters", {})
    texts = {name: {"string_param": orjson.dumps(value).decode()} for name, value in given.items()}
    return {**tensor, "parameters": texts}


Method = Callable[[Any, grpc.aio.ServicerContext], Any]
"""Takes a request message; gives a response message or a future of one."""


def _methods(service: Service) -> Mapping[str, Method]:
    def metadata(request: Any, _: Any) -> Any:
        found = service.metadata(request.name, request.version or None)
        found["outputs"] = [_with_parameters(tensor) for tensor in found["outputs"]]
        return response_class("ModelMetadata")(**found)

    def statistics(request: Any, _: Any) -> Any:
        found = service.statistics(request.name or None, request.version or None)
        return response_class("ModelStatistics")(**found)

    def ready(request: Any, _: Any) -> Any:
        try:
            service.loaded(request.name, request.version or None)
        except RequestError:
            return response_class("ModelReady")(ready=False)
        return response_class("ModelReady")(ready=True)

    def load(request: Any, _: Any) -> Any:
        service.load(request.model_name)
        return response_class("RepositoryModelLoad")()

    def unload(request: Any, _: Any) -> Any:
        service.unload(request.model_name)
        return response_class("RepositoryModelUnload")()

    return {
        "ServerLive": lambda _, __: response_class("ServerLive")(live=True),
        "ServerReady": lambda _, __: response_class("ServerReady")(ready=service.is_ready()),
        "ServerMetadata": lambda _, __: response_class("ServerMetadata")(
            **describe.server_metadata()
        ),
        "ModelReady": ready,
        "ModelMetadata": metadata,
        "ModelInfer": _infer(service),
        "ModelStatistics": statistics,
        "RepositoryIndex": lambda _, __: response_class("RepositoryIndex")(models=service.index()),
        "RepositoryModelLoad": load,
        "RepositoryModelUnload": unload,
    }


def _infer(service: Service) -> Method:
    inference = service.inference

    def infer(request: Any, context: grpc.aio.ServicerContext) -> asyncio.Future[Any]:
        inference.check_model(request.model_name)
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

        def reply(response: Any) -> None:
            if answer.done():  # its caller has gone
                return
            if isinstance(response, RequestError):
                answer.set_exception(response)
            else:
                answer.set_result(response)

        parse = partial(parse_message, left_s=context.time_remaining())
        with _under_trace(context):
            give_up = inference.infer(request, reply, parse=parse, refuse=lambda error: error)
        answer.add_done_callback(lambda done: give_up() if done.cancelled() else None)
        return answer

    return infer


@contextmanager
def _under_trace(context: grpc.aio.ServicerContext) -> Iterator[None]:
    """The block under the trace of the call's `traceparent`, which the answer carries on."""
    sent = next((value for key, value in context.invocation_metadata() or () if key == _TRACE), "")
    found = trace.parse(sent) if isinstance(sent, str) and sent else None
    if found is None:
        yield
        return
    context.set_trailing_metadata(((_TRACE, found.traceparent),))
    token = trace.current.set(found)
    try:
        yield
    finally:
        trace.current.reset(token)
