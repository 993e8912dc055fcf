"""The Open Inference Protocol v2, complete: REST with JSON and binary tensors, and gRPC."""

from raymlops.serve.protocols.open_inference.rest import register

__all__ = ["register"]
