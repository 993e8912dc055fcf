"""The routes of the server as a whole: /v2 and its health, and the models that are not there."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import orjson

from raymlops.errors import RequestError
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
    for method in ("GET", "POST"):
        routes.add(method, "/v2/models/{model}", _no_model)
        routes.add(method, "/v2/models/{model}/{rest:path}", _no_model)
    return routes


def _no_model(request: Request, _: Reply) -> None:
    raise RequestError(404, f"no model '{request.params['model']}' is deployed")
