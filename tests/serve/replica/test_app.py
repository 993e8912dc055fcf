from __future__ import annotations

import gzip
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import quote

import httpx
import numpy as np
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raymlops.models import PROBABILITY, Bundle
from raymlops.serve import Arm, BatchPolicy, TrafficTable
from raymlops.serve.engines import BundleRunner
from raymlops.serve.exchange import Exchange, runs_of
from raymlops.serve.inference import Inference
from raymlops.serve.replica.app import model_handler, model_routes
from raymlops.serve.versions.arms import Arms
from raymlops.serve.web import Request
from raymlops.serve.web.asgi import Application
from raymlops.serve.witnesses.statistics import Statistics
from tests.serve.conftest import MODEL, World
from tests.serve.coroutines import run

MAX_BODY_BYTES = 10_000


@asynccontextmanager
async def serving(
    bundles: dict[str, Bundle], *versions: str
) -> AsyncIterator[tuple[httpx.AsyncClient, list[Exchange]]]:
    """The application itself, called without a network, and the exchanges it recorded."""
    exchanges: list[Exchange] = []
    arms = Arms(bundles.__getitem__, BatchPolicy())
    if versions:
        parts = tuple(Arm(name=f"v{v}", version=v, share=1 / len(versions)) for v in versions)
        await arms.apply(TrafficTable(model=MODEL, arms=parts))
    app = application(arms, exchanges)
    transport = httpx.ASGITransport(app=app, raise_app_exceptions=True)
    async with httpx.AsyncClient(transport=transport, base_url="http://server") as client:
        yield client, exchanges
    await arms.close()


def application(arms: Arms, exchanges: list[Exchange]) -> Application:
    statistics = Statistics()

    def record(exchange: Exchange) -> None:
        exchanges.append(exchange)
        statistics.note(runs_of([exchange]))

    inference = Inference(MODEL, arms, record, statistics)
    handler = model_handler(inference, max_body_bytes=MAX_BODY_BYTES)
    return Application(handler, max_body_bytes=MAX_BODY_BYTES, refused=inference.refused)


def body(world: World, num_rows: int = 3, **members: Any) -> bytes:
    inputs = [
        {
            "name": name,
            "datatype": "BYTES" if column.dtype == object else "FP64",
            "shape": [num_rows],
            "data": [None if value != value else value for value in column.tolist()],
        }
        for name, column in world.rows(0, num_rows).items()
    ]
    return orjson.dumps({"inputs": inputs} | members)


INFER = f"/v2/models/{MODEL}/infer"


def test_an_answer_is_the_bundles_and_is_recorded(world: World) -> None:
    async def test() -> None:
        async with serving(world.bundles, "1.0.0") as (client, exchanges):
            response = await client.post(INFER, content=body(world, id="r-1"))
        assert response.status_code == 200
        answer = response.json()
        assert (answer["id"], answer["model_version"]) == ("r-1", "1.0.0")
        assert answer["parameters"] == {"arm": "v1.0.0"}
        wanted = world.bundles["1.0.0"].predict(world.rows(0, 3))[PROBABILITY]
        np.testing.assert_allclose(answer["outputs"][0]["data"], wanted, rtol=1e-6)
        (exchange,) = exchanges
        assert (exchange.outcome, exchange.status, exchange.arm) == ("ok", 200, "v1.0.0")
        assert exchange.latency_s > 0

    run(test)


def test_an_id_in_a_header_may_be_any_text(world: World) -> None:
    rows = {"records": [{"radius": 10.0, "texture": 10.0, "smoothness": 0.1, "size": "small"}]}

    async def test() -> None:
        async with serving(world.bundles, "1.0.0") as (client, _):
            answer = await client.post("/predict", json={"id": "r-\N{SNOWMAN}", **rows})
        assert answer.status_code == 200
        assert answer.json()["id"] == "r-\N{SNOWMAN}"
        assert answer.headers["x-request-id"] == "r-?"

    run(test)


def test_a_version_can_be_asked_for_by_name(world: World) -> None:
    async def test() -> None:
        async with serving(world.bundles, "1.0.0", "1.0.1") as (client, _):
            pinned = f"/v2/models/{MODEL}/versions/1.0.1/infer"
            response = await client.post(pinned, content=body(world))
            assert response.json()["model_version"] == "1.0.1"
            unknown = await client.post(pinned.replace("1.0.1", "9.9.9"), content=body(world))
            assert unknown.status_code == 404
            assert "9.9.9 is not loaded; there are: 1.0.0, 1.0.1" in unknown.json()["error"]

    run(test)


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


def test_binary_tensors_and_compressed_bodies_are_taken(world: World) -> None:
    columns = world.rows(0, 3)
    texts = [value.encode() for value in columns["size"]]
    binary = {
        name: b"".join(len(text).to_bytes(4, "little") + text for text in texts)
        if column.dtype == object
        else column.tobytes()
        for name, column in columns.items()
    }
    inputs = [
        {
            "name": name,
            "datatype": "BYTES" if name == "size" else "FP64",
            "shape": [3],
            "parameters": {"binary_data_size": len(data)},
        }
        for name, data in binary.items()
    ]
    head = orjson.dumps({"inputs": inputs, "parameters": {"binary_data_output": True}})
    content = gzip.compress(b"".join((head, *binary.values())))

    async def test() -> None:
        async with serving(world.bundles, "1.0.0") as (client, exchanges):
            headers = {
                "content-encoding": "gzip",
                "inference-header-content-length": str(len(head)),
            }
            response = await client.post(INFER, content=content, headers=headers)
            bomb = gzip.compress(b" " * MAX_BODY_BYTES * 10)
            refused = await client.post(INFER, content=bomb, headers={"content-encoding": "gzip"})
        assert response.status_code == 200
        length = int(response.headers["inference-header-content-length"])
        wanted = world.bundles["1.0.0"].predict(columns)
        assert response.content[length:] == (
            wanted[PROBABILITY].tobytes() + wanted["benign"].tobytes()
        )
        assert refused.status_code == 413
        assert refused.json() == {"error": "the body inflates to more than 10000 bytes"}
        assert [exchange.status for exchange in exchanges] == [200, 413]

    run(test)


def test_before_the_first_table_the_answer_is_to_try_again(world: World) -> None:
    async def test() -> None:
        async with serving(world.bundles) as (client, exchanges):
            for answer in (
                await client.post(INFER, content=body(world)),
                await client.get(f"/v2/models/{MODEL}/ready"),
            ):
                assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
        assert [exchange.outcome for exchange in exchanges] == ["failed"]

    run(test)


@pytest.mark.parametrize("announced", [True, False])
def test_a_body_over_the_limit_is_refused(world: World, announced: bool) -> None:
    async def parts() -> AsyncIterator[bytes]:
        for _ in range(11):
            yield b" " * 1000

    async def test() -> None:
        content = b" " * 11_000 if announced else parts()
        async with serving(world.bundles, "1.0.0") as (client, exchanges):
            response = await client.post(INFER, content=content)
        assert response.status_code == 413
        assert response.json() == {"error": "the body is larger than 10000 bytes"}
        assert [(exchange.status, exchange.error) for exchange in exchanges] == [
            (413, "the body is larger than 10000 bytes")
        ]

    run(test)


def test_a_failure_shows_no_trace_and_is_logged(
    world: World, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def test() -> None:
        async with serving(world.bundles, "1.0.0") as (client, exchanges):
            monkeypatch.setattr(BundleRunner, "__call__", lambda *_: 1 / 0)
            response = await client.post(INFER, content=body(world, id="r-1"))
        assert response.status_code == 500
        assert response.json() == {"error": "internal error, logged for request r-1"}
        assert [exchange.outcome for exchange in exchanges] == ["failed"]

    run(test)
    assert "ZeroDivisionError" in caplog.text


def test_a_client_that_leaves_before_its_request_is_complete_is_forgotten(world: World) -> None:
    async def test() -> None:
        exchanges: list[Exchange] = []
        arms = Arms(world.bundles.__getitem__, BatchPolicy())
        app = application(arms, exchanges)
        events = iter(
            ({"type": "http.request", "body": b"{", "more_body": True}, {"type": "http.disconnect"})
        )

        async def receive() -> Any:
            return next(events)

        async def send(_: Any) -> None:
            raise AssertionError("nobody is there to be answered")

        scope = {"type": "http", "method": "POST", "path": INFER, "headers": []}
        await app(scope, receive, send)
        assert exchanges == []

    run(test)


def test_who_leaves_a_queue_is_taken_out_of_it(world: World) -> None:
    async def test() -> None:
        exchanges: list[Exchange] = []
        arms = Arms(world.bundles.__getitem__, BatchPolicy(max_wait_s=0.05))
        await arms.apply(TrafficTable.champion(MODEL, "1.0.0"))
        routes = model_routes(Inference(MODEL, arms, exchanges.append))
        request = Request("POST", INFER, body=body(world))
        routes(request, lambda _: pytest.fail("nobody is there to be answered"))
        request.abandon()
        await arms.close()
        assert exchanges == []

    run(test)


def test_nothing_a_client_sends_is_the_servers_fault(bundles: dict[str, Bundle]) -> None:
    members = st.sampled_from(["id", "inputs", "outputs", "parameters"])
    values = st.none() | st.floats() | st.text() | st.lists(st.integers(), max_size=2)
    documents = st.dictionaries(members, values).map(lambda members: json.dumps(members).encode())

    @settings(max_examples=50, deadline=None)
    @given(
        content=st.binary(max_size=200) | documents,
        path=st.text(max_size=20).map(quote) | st.just(INFER.removeprefix("/")),
        method=st.sampled_from(["GET", "POST", "PUT", "DELETE"]),
    )
    def send(content: bytes, path: str, method: str) -> None:
        async def test() -> None:
            async with serving(bundles, "1.0.0") as (client, _):
                response = await client.request(method, f"/{path}", content=content)
            assert response.status_code < 500
            assert isinstance(response.json(), dict)

        run(test)

    send()
