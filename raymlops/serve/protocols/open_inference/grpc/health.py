"""gRPC's own health check, by which load balancers and probes ask whoever speaks gRPC.

https://github.com/grpc/grpc-proto/blob/master/grpc/health/v1/health.proto, of which `Watch` is
left out: its clients take that for a server without it, and go by the connection.
"""

from __future__ import annotations

from typing import Any

from raymlops.errors import RequestError
from raymlops.serve.protocols.open_inference.grpc.messages import SERVICE
from raymlops.serve.protocols.open_inference.grpc.proto import message_classes
from raymlops.serve.protocols.open_inference.service import Service

HEALTH = "grpc.health.v1.Health"

# The status is an enum there, which is written as a number is.
_CLASSES = message_classes(
    """
    syntax = "proto3";
    package grpc.health.v1;
    message HealthCheckRequest { string service = 1; }
    message HealthCheckResponse { int32 status = 1; }
    """,
    "health.proto",
)
HealthCheckRequest, HealthCheckResponse = _CLASSES.values()

_SERVING, _NOT_SERVING = 1, 2


def check(service: Service, request: Any) -> Any:
    """Whether the model is ready.

    Raises:
        RequestError: 404, another service is asked after than that of the protocol, or all.
    """
    if request.service not in ("", SERVICE):
        raise RequestError(404, f"there is no service '{request.service}', but {SERVICE}")
    return HealthCheckResponse(status=_SERVING if service.is_ready() else _NOT_SERVING)
