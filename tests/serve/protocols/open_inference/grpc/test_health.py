from __future__ import annotations

import grpc
import pytest

from raymlops.serve import BatchPolicy
from raymlops.serve.inference import Inference
from raymlops.serve.protocols.open_inference.grpc.messages import SERVICE
from raymlops.serve.versions.arms import Arms
from tests.serve.protocols.conftest import Listening
from tests.serve.protocols.open_inference.grpc.calling import connected


@pytest.mark.parametrize("service", [b"", SERVICE.encode()])
def test_a_probe_that_speaks_grpc_alone_is_told_who_serves(
    channel: grpc.Channel, service: bytes
) -> None:
    ask = channel.unary_unary("/grpc.health.v1.Health/Check")
    assert ask(b"\x0a" + bytes([len(service)]) + service, timeout=20.0) == b"\x08\x01"
    with pytest.raises(grpc.RpcError) as refused:
        ask(b"\x0a\x05other", timeout=20.0)
    assert refused.value.code() is grpc.StatusCode.NOT_FOUND


def test_a_probe_is_told_of_a_model_that_is_not_ready(server: Listening) -> None:
    idle = Inference("idle", Arms({}.__getitem__, BatchPolicy()), lambda _: None)
    with connected(server, idle) as channel:
        assert channel.unary_unary("/grpc.health.v1.Health/Check")(b"", timeout=20.0) == b"\x08\x02"
