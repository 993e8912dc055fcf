"""The Open Inference Protocol over REST: /v2 and all below it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import orjson

from raymlops.serve.inference import Inference
from raymlops.serve.protocols.open_inference import describe
from raymlops.serve.protocols.open_inference.ask import OpenInferenceAsk, parse_infer
from raymlops.serve.protocols.open_inference.service import Service
from raymlops.serve.web import Handler, Reply, Request, Response, Routes, Sorting

_JSON_LENGTH = "inference-header-content-length"


def register(routes: Routes, inference: Inference) -> None:
    service = Service(inference)
    model, version = "/v2/models/{model}", "/v2/models/{model}/versions/{version}"
    for path in (model, version):
        routes.add("POST", f"{path}/infer", _Infer(inference))
    register_server(routes)
    routes.add("GET", "/v2/health/ready", _ready(service))
    routes.add("GET", "/v2/models/stats", _told(lambda _: service.statistics(None, None)))
    for path in (model, version):
        routes.add("GET", path, _told(lambda of: service.metadata(*_named(of))))
        routes.add("GET", f"{path}/ready", _told(lambda of: _model_ready(service, of)))
        routes.add("GET", f"{path}/stats", _told(lambda of: service.statistics(*_named(of))))
    repository = "/v2/repository"
    routes.add("POST", f"{repository}/index", _told(lambda _: service.index()))
    routes.add(
        "POST", f"{repository}/models/{{model}}/load", _done(lambda name: service.load(name))
    )
    routes.add(
        "POST", f"{repository}/models/{{model}}/unload", _done(lambda name: service.unload(name))
    )


def register_server(routes: Routes) -> None:
    """What needs no model."""
    routes.add("GET", "/v2", _told(lambda _: describe.server_metadata()))
    routes.add("GET", "/v2/health/live", _told(lambda _: {"live": True}))


class _Infer(Sorting):
    """Of a request to infer, the head says all but the tensors."""

    def __init__(self, inference: Inference) -> None:
        self._inference = inference

    def sort(self, head: Request) -> Handler:
        inference = self._inference
        inference.check_model(head.params["model"])
        version, json_length = head.params.get("version"), head.headers.get(_JSON_LENGTH)

        def parse(request: Request) -> OpenInferenceAsk:
            return parse_infer(
                request.body,
                version=version,
                json_length=json_length,
                likely=inference.arms.likely_form,
            )

        def infer(request: Request, reply: Reply) -> None:
            request.on_gone = inference.infer(request, reply, parse=parse, refuse=Response.refusal)

        return infer


def _ready(service: Service) -> Handler:
    def ready(_: Request, reply: Reply) -> None:
        found = service.is_ready()
        reply(_json({"ready": found}, status=200 if found else 503))

    return ready


def _model_ready(service: Service, params: Any) -> dict[str, Any]:
    service.loaded(*_named(params))
    return {"name": params["model"], "ready": True}


def _named(params: Any) -> tuple[str, str | None]:
    return params["model"], params.get("version")


def _told(tell: Callable[[Any], Any]) -> Handler:
    """A handler that answers with what `tell` says of the path's parameters."""

    def handler(request: Request, reply: Reply) -> None:
        reply(_json(tell(request.params)))

    return handler


def _done(act: Callable[[str], None]) -> Handler:
    """A handler that answers with nothing, once `act` has done something to the path's model."""

    def handler(request: Request, reply: Reply) -> None:
        act(request.params["model"])
        reply(Response(200, b"{}"))

    return handler


def _json(document: Any, status: int = 200) -> Response:
    return Response(status, orjson.dumps(document))
