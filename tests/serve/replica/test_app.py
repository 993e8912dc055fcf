"""What is asked is answered, and what cannot be is refused, by whichever fault."""

from __future__ import annotations

import gzip
import json
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import quote

import numpy as np
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raymlops.models import PROBABILITY, Bundle
from raymlops.serve import BatchPolicy, TrafficTable
from raymlops.serve.engines import BundleRunner
from raymlops.serve.exchange import Exchange
from raymlops.serve.inference import Inference
from raymlops.serve.replica.app import model_routes
from raymlops.serve.versions.arms import Arms
from raymlops.serve.web import Request
from tests.serve.conftest import MODEL, World
from tests.serve.coroutines import run
from tests.serve.replica.application import INFER, MAX_BODY_BYTES, application, body, serving


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
