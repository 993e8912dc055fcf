"""The routes of one model: what every protocol adds, in one table."""

from __future__ import annotations

from raymlops.serve.inference import Inference
from raymlops.serve.protocols import PROTOCOLS
from raymlops.serve.web import Handler, Routes
from raymlops.serve.web.inflation import Inflating
from raymlops.serve.web.traced import Traced


def model_handler(inference: Inference, *, max_body_bytes: int) -> Handler:
    """Everything a replica of the model answers; a compressed body counts as what it holds."""
    routes = model_routes(inference)
    return Traced(Inflating(routes, max_bytes=max_body_bytes, refused=inference.refused))


def model_routes(inference: Inference) -> Routes:
    """What every protocol adds."""
    routes = Routes()
    for register in PROTOCOLS:
        register(routes, inference)
    return routes
