from __future__ import annotations

import asyncio
import json

import httpx
import pytest

from raymlops.serve.protocols.front import front_routes
from raymlops.serve.protocols.index import register_index
from raymlops.serve.web import Request, Routes, answered
from raymlops.serve.web.asgi import Application


def ask(method: str, path: str, *, is_ready: bool = True) -> httpx.Response:
    async def ready() -> bool:
        return is_ready

    async def run() -> httpx.Response:
        app = Application(front_routes(ready), max_body_bytes=1000)
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="http://server") as client:
            return await client.request(method, path)

    return asyncio.run(run())


def test_the_server_names_itself() -> None:
    found = ask("GET", "/v2").json()
    assert found["name"] == "raymlops"
    assert "binary_tensor_data" in found["extensions"]


def test_the_address_names_its_models_and_where_they_are_described() -> None:
    async def run() -> bytes:
        routes = Routes()
        register_index(routes, lambda: {"trains", "a/b"})
        return bytes((await answered(routes, Request("GET", "/"))).body)

    assert json.loads(asyncio.run(run()))["models"] == [
        {
            "name": "a/b",
            "docs": "/v2/models/a%2Fb/docs",
            "openapi": "/v2/models/a%2Fb/openapi.json",
        },
        {
            "name": "trains",
            "docs": "/v2/models/trains/docs",
            "openapi": "/v2/models/trains/openapi.json",
        },
    ]


def test_ready_means_every_model_is() -> None:
    assert ask("GET", "/v2/health/live", is_ready=False).json() == {"live": True}
    assert ask("GET", "/v2/health/ready").json() == {"ready": True}
    waiting = ask("GET", "/v2/health/ready", is_ready=False)
    assert (waiting.status_code, waiting.json()) == (503, {"ready": False})


@pytest.mark.parametrize(
    ("method", "path", "status", "error"),
    [
        ("POST", "/v2", 405, "the method must be GET"),
        ("GET", "/v2/nothing", 404, "there is nothing at /v2/nothing"),
        ("POST", "/v2/models/flights/infer", 404, "no model 'flights' is deployed"),
        ("GET", "/v2/models/flights/versions/1.0.0", 404, "no model 'flights' is deployed"),
        ("POST", "/v1/models/flights:predict", 404, "no model 'flights' is deployed"),
        ("GET", "/v1/models/flights/metadata", 404, "no model 'flights' is deployed"),
        ("POST", "/v2/repository/models/flights/load", 404, "no model 'flights' is deployed"),
        (
            "GET",
            "/v2/models/stats",
            404,
            "no model alone is deployed here: ask for /v2/models/MODEL/stats",
        ),
    ],
)
def test_what_is_not_there_is_said_in_json(method: str, path: str, status: int, error: str) -> None:
    response = ask(method, path)
    assert (response.status_code, response.json()) == (status, {"error": error})
