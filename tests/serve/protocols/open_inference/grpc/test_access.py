from __future__ import annotations

import grpc
import pytest

from raymlops.serve.protocols.open_inference.grpc.messages import (
    SERVICE,
    request_class,
)
from raymlops.serve.web import Request, Response
from tests.serve.conftest import MODEL
from tests.serve.protocols.conftest import Listening
from tests.serve.protocols.open_inference.grpc.calling import (
    asker,
    call,
    connected,
    never,
    refusal,
    typed,
)


def test_a_call_without_a_key_is_refused_before_it_is_read(server: Listening) -> None:
    def admit(request: Request) -> Response | None:
        if request.path == "/v2/health/live" or request.headers.get("x-api-key") == "k":
            return None
        return Response.error(401, "no key")

    with connected(server, admit=admit) as channel:
        assert call(channel, "ServerLive").live
        code, details = refusal(channel, "ModelInfer", model_name=MODEL, inputs=typed())
        assert (code, details) == (grpc.StatusCode.UNAUTHENTICATED, "no key")
        assert (server.exchanges[-1].status, server.exchanges[-1].error) == (401, "no key")
        request = request_class("ModelReady")(name=MODEL)
        ask = asker(channel, "ModelReady")
        assert ask(request, metadata=(("x-api-key", "k"),), timeout=10.0).ready


def test_who_has_no_key_is_refused_before_a_message_came(server: Listening) -> None:
    with connected(server, admit=lambda _: Response.error(401, "no key")) as channel:
        with pytest.raises(grpc.RpcError) as refused:
            channel.stream_unary(f"/{SERVICE}/ModelInfer")(never(), timeout=5.0)
        assert refused.value.code() is grpc.StatusCode.UNAUTHENTICATED
