"""The routes of the OpenAPI document and of the page, which is made from it."""

from __future__ import annotations

from importlib.resources import files
from typing import Any

import orjson

from raymlops.serve.inference import Inference
from raymlops.serve.protocols.index import register_index
from raymlops.serve.protocols.openapi.paths import (
    Described,
    open_inference_paths,
    predict_paths,
    tensorflow_serving_paths,
)
from raymlops.serve.versions.loaded import LoadedVersion
from raymlops.serve.web import Reply, Request, Response, Routes

_NUM_EXAMPLES = 2
# The page loads nothing from anywhere, and asks this server alone.
_POLICY = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; "
    "connect-src 'self'; base-uri 'none'; frame-ancestors 'none'"
)


def register(routes: Routes, inference: Inference) -> None:
    def document(request: Request, reply: Reply) -> None:
        inference.check_model(request.params.get("model", inference.model))
        _, loaded = inference.arms.of_key("")
        reply(Response(200, orjson.dumps(openapi(inference.model, loaded))))

    def page(request: Request, reply: Reply) -> None:
        inference.check_model(request.params.get("model", inference.model))
        headers = (("content-security-policy", _POLICY),)
        reply(Response(200, _page(), "text/html; charset=utf-8", headers))

    register_index(routes, lambda: (inference.model,))
    for prefix in ("", "/v2/models/{model}"):
        routes.add("GET", f"{prefix}/openapi.json", document)
        routes.add("GET", f"{prefix}/docs", page)


def openapi(model: str, loaded: LoadedVersion) -> dict[str, Any]:
    """The document of a model, whose signature is that of the version that answers most keys."""
    described = Described(model, loaded.form, loaded.bundle.sample_records(_NUM_EXAMPLES))
    return {
        "openapi": "3.1.0",
        "info": {
            "title": model,
            "version": loaded.version,
            "description": "Requests are checked by the model's signature; an error names the "
            "field at fault.",
        },
        "paths": {
            **predict_paths(described),
            **open_inference_paths(described),
            **tensorflow_serving_paths(described),
        },
    }


def _page() -> bytes:
    return files("raymlops.serve.protocols.openapi").joinpath("page.html").read_bytes()
