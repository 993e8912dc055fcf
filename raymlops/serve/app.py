"""The routes of one model: what every protocol adds, in one table."""

from __future__ import annotations

from raymlops.serve.inference import Inference
from raymlops.serve.protocols import PROTOCOLS
from raymlops.serve.web import Routes


def model_routes(inference: Inference) -> Routes:
    """Everything a replica of the model answers."""
    routes = Routes()
    for register in PROTOCOLS:
        register(routes, inference)
    return routes
