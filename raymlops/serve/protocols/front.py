"""The routes of the server as a whole: /v2 and its health, and the models that are not there."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import orjson

from raymlops.errors import RequestError
from raymlops.serve.door.sorting import model_of
from raymlops.serve.protocols.open_inference.rest import register_server
from raymlops.serve.web import Reply, Request, Response, Routes, later


def front_routes(is_ready: Callable[[], Awaitable[bool]]) -> Routes:
    """Answers what concerns no single model; `is_ready` says whether all of them serve."""

    async def ready(_: Request) -> Response:
        found = await is_ready()
        return Response(200 if found else 503, orjson.dumps({"ready": found}))

    routes = Routes()
    register_server(routes)
    routes.add("GET", "/v2/health/ready", later(ready))
    routes.add("GET", "/v2/models/stats", _of_one_model)
    for method in ("GET", "POST"):
        for models in ("/v1/models", "/v2/models", "/v2/repository/models"):
            routes.add(method, f"{models}/{{model}}", _no_model)
            routes.add(method, f"{models}/{{model}}/{{rest:path}}", _no_model)
    return routes


def _no_model(request: Request, _: Reply) -> None:
    raise RequestError(404, f"no model '{model_of(request.path)}' is deployed")


def _of_one_model(_: Request, __: Reply) -> None:
    raise RequestError(404, "no model alone is deployed here: ask for /v2/models/MODEL/stats")
