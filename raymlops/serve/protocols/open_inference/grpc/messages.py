"""The messages and the service of the protocol, from its .proto file."""

from __future__ import annotations

from importlib.resources import files
from typing import Any

from raymlops.serve.protocols.open_inference.grpc.proto import message_classes

PROTO = "open_inference.proto"
SERVICE = "inference.GRPCInferenceService"

CLASSES = message_classes(files(__package__).joinpath(PROTO).read_text(), PROTO)


def request_class(method: str) -> type[Any]:
    return CLASSES[f"{method}Request"]


def response_class(method: str) -> type[Any]:
    return CLASSES[f"{method}Response"]
