"""What an application tells of itself: models, versions, statistics."""

from __future__ import annotations

import pytest

from tests.serve.conftest import MODEL, World
from tests.serve.coroutines import run
from tests.serve.replica.application import body, serving


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "", 200),
        ("GET", "/ready", 200),
        ("GET", "/versions/1.0.0", 200),
        ("GET", "/versions/1.0.0/ready", 200),
        ("GET", "/versions/1.0.2", 404),
        ("GET", "/nothing", 404),
        ("GET", "/versions/1.0.0/nothing", 404),
        ("GET", "/infer", 405),
        ("POST", "", 405),
        ("POST", "/ready", 405),
        ("POST", "/infer", 400),
        ("HEAD", "/ready", 200),
    ],
)
def test_every_path_answers_in_json(world: World, method: str, path: str, status: int) -> None:
    async def test() -> None:
        async with serving(world.bundles, "1.0.0") as (client, _):
            response = await client.request(method, f"/v2/models/{MODEL}{path}")
        assert response.status_code == status
        if method != "HEAD":
            assert ("error" in response.json()) == (status >= 400)
        assert ("allow" in response.headers) == (status == 405)

    run(test)


def test_metadata_names_what_is_loaded(world: World) -> None:
    async def test() -> None:
        async with serving(world.bundles, "1.0.0", "1.0.1") as (client, _):
            found = (await client.get(f"/v2/models/{MODEL}")).json()
        assert (found["name"], found["versions"]) == (MODEL, ["1.0.0", "1.0.1"])
        assert [field["name"] for field in found["inputs"]] == [*world.columns]

    run(test)


def test_the_server_tells_of_itself_and_its_models(world: World) -> None:
    async def test() -> None:
        async with serving(world.bundles, "1.0.0", "1.0.1") as (client, _):
            assert (await client.get("/v2")).json()["name"] == "raymlops"
            assert (await client.get("/v2/health/live")).json() == {"live": True}
            assert (await client.get("/v2/health/ready")).json() == {"ready": True}
            index = (await client.post("/v2/repository/index")).json()
            assert index == [
                {"name": MODEL, "version": version, "state": "READY", "reason": ""}
                for version in ("1.0.0", "1.0.1")
            ]

    run(test)


def test_statistics_count_rows_and_failures_by_version(world: World) -> None:
    async def test() -> None:
        async with serving(world.bundles, "1.0.0", "1.0.1") as (client, _):
            pinned = f"/v2/models/{MODEL}/versions/1.0.1"
            for content in (body(world), body(world, 5), b'{"inputs": []}'):
                await client.post(f"{pinned}/infer", content=content)
            (stats,) = (await client.get(f"{pinned}/stats")).json()["model_stats"]
            every = (await client.get("/v2/models/stats")).json()["model_stats"]
            missing = await client.get(f"/v2/models/{MODEL}/versions/9.9.9/stats")
        assert stats["inference_count"] == 8
        assert stats["inference_stats"]["success"]["count"] == 2
        assert stats["inference_stats"]["success"]["ns"] > 0
        assert stats["inference_stats"]["fail"]["count"] == 1
        assert stats["last_inference"] > 1.7e12
        assert {each["version"]: each["inference_count"] for each in every} == {
            "1.0.0": 0,
            "1.0.1": 8,
        }
        assert missing.status_code == 404

    run(test)


def test_loading_and_unloading_are_decisions_not_requests(world: World) -> None:
    async def test() -> None:
        async with serving(world.bundles, "1.0.0") as (client, _):
            model = f"/v2/repository/models/{MODEL}"
            assert (await client.post(f"{model}/load")).status_code == 200
            refused = await client.post(f"{model}/unload")
            assert refused.status_code == 403
            assert f"raymlops undeploy {MODEL}" in refused.json()["error"]
            other = await client.post("/v2/repository/models/other/load")
            assert other.status_code == 404

    run(test)
