"""The protocols a model speaks: each module adds its routes to the model's table.

To add one, write `register(routes, inference)` in a module of its own, and name it here.
`front` answers for the server as a whole.
"""

from __future__ import annotations

from collections.abc import Callable

from raymlops.serve.inference import Inference
from raymlops.serve.protocols import open_inference, openapi, records, tensorflow_serving
from raymlops.serve.web import Routes

PROTOCOLS: tuple[Callable[[Routes, Inference], None], ...] = (
    open_inference.register,
    records.register,
    tensorflow_serving.register,
    openapi.register,
)

__all__ = ["PROTOCOLS"]
