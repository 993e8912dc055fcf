"""An id is worked on once, for whoever gave it."""

from __future__ import annotations

import asyncio
import gzip
import json
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from raymlops.errors import RequestError
from raymlops.serve.deferred import Deferring, Results, Ticket
from raymlops.serve.web import Reply, Request, Response
from raymlops.storage import Files
from tests.serve.deferred.world import POLICY, RESULTS, World, deferred


def test_the_same_id_is_worked_on_once(world: World) -> None:
    assert world.submit("r-1")[0] == world.submit("r-1")[0] == 202
    assert len(world.asked) == 1
    world.answer()
    assert world.submit("r-1")[0] == 202
    assert len(world.asked) == 1


def test_who_asks_with_another_key_finds_nothing_and_has_ids_of_their_own(world: World) -> None:
    """Any key that is good for the model read, removed and forestalled the results of all others,
    whose ids are often orders or users that are easily guessed."""
    ann, bob = {"x_api_key": "ann"}, {"x_api_key": "bob"}
    world.submit("r-1", **ann)
    world.answer(b'"for ann"')
    for other in (bob, {}):
        assert world.ask("GET", f"{RESULTS}/r-1", **other)[0] == 404
        assert world.ask("DELETE", f"{RESULTS}/r-1", **other)[0] == 200
    assert world.submit("r-1", **bob)[0] == 202
    world.answer(b'"for bob"')
    assert world.ask("GET", f"{RESULTS}/r-1", **ann)[:2] == (200, "for ann")
    assert world.ask("GET", f"{RESULTS}/r-1", **bob)[:2] == (200, "for bob")
    world.now += 100.0
    assert world.results.sweep(world.now) == 2


def test_another_request_under_the_same_id_is_refused(world: World) -> None:
    """It was accepted, and its client was given the answer to the first one."""

    def submit(path: str, body: bytes) -> int:
        headers = {"prefer": "respond-async", "x-request-id": "r-1"}
        return world.send(Request("POST", path, headers=headers, body=body)).status

    infer, pinned = "/v2/models/m/infer", "/v2/models/m/versions/1.0.0/infer"
    assert submit(infer, b'{"a": 1}') == 202
    assert [submit(infer, b'{"a": 2}'), submit(pinned, b'{"a": 1}')] == [409, 409]
    world.answer(b'"of a = 1"')
    assert [submit(infer, b'{"a": 2}'), submit(infer, b'{"a": 1}')] == [409, 202]
    assert world.ask("GET", f"{RESULTS}/r-1")[:2] == (200, "of a = 1")
    assert world.refused == [409, 409, 409]
    assert len(world.asked) == 1


def test_of_all_who_begin_an_id_at_once_one_works_on_it(tmp_path: Path) -> None:
    """Each looked, and then wrote."""
    together = threading.Barrier(8)

    def begin(_: int) -> bool:
        results = Results(Files(str(tmp_path)), "m", POLICY)
        together.wait()
        return results.begin(Ticket("r-1"), 1000.0)

    with ThreadPoolExecutor(8) as replicas:
        assert sum(replicas.map(begin, range(8))) == 1


BODY = b'{"id": "r-1", "inputs": []}'


@pytest.mark.parametrize(
    ("path", "body", "headers"),
    [
        ("/v2/models/m/infer", BODY, {}),
        ("/v2/models/m/versions/1.0.0/predict", BODY, {}),
        ("/predict", gzip.compress(BODY), {"content-encoding": "gzip"}),
        ("/v2/models/m/infer", BODY + b"\0", {"inference-header-content-length": str(len(BODY))}),
        ("/v2/models/m/infer", b'{"id": "r-2"}', {"x-request-id": "r-1"}),
    ],
    ids=["infer", "predict", "compressed", "binary", "header"],
)
def test_the_same_id_in_a_body_is_worked_on_once(
    world: World, path: str, body: bytes, headers: dict[str, str]
) -> None:
    # Only the header was looked at, and each of these got an id of its own.
    for _ in range(2):
        request = Request("POST", path, headers={"prefer": "respond-async", **headers}, body=body)
        response = world.send(request)
        assert (response.status, dict(response.headers)["location"]) == (202, f"{RESULTS}/r-1")
    assert len(world.asked) == 1


@pytest.mark.parametrize("body", [b"[]", b"{}", b'{"id": ""}', b'{"id": null}'])
def test_a_request_without_an_id_gets_one(world: World, body: bytes) -> None:
    request = Request("POST", "/predict", headers={"prefer": "respond-async"}, body=body)
    ids = {json.loads(world.send(request).body)["id"] for _ in range(2)}
    assert {len(id) for id in ids} == {32}
    assert len(ids) == 2


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"{", "the body is not JSON"),
        (b'{"id": 7}', "id is a whole number, not text"),
        (b'{"id": 0}', "id is a whole number, not text"),
        (b'{"id": "a b"}', "a result's id has up to 64 letters"),
    ],
)
def test_a_body_whose_id_cannot_be_kept_is_refused(world: World, body: bytes, message: str) -> None:
    response = world.send(
        Request("POST", "/predict", headers={"prefer": "respond-async"}, body=body)
    )
    assert (response.status, message in json.loads(response.body)["error"]) == (400, True)
    assert world.asked == []


def test_a_client_that_leaves_while_its_request_is_noted_leaves_no_id_behind(
    tmp_path: Path,
) -> None:
    noting, gone = threading.Event(), threading.Event()

    class Slow(Results):
        def begin(self, id: str, now: float) -> bool:
            noting.set()
            assert gone.wait(10.0)
            return super().begin(id, now)

    def handle(_: Request, reply: Reply) -> None:
        reply(Response(200, b"{}"))

    results, told = Slow(Files(str(tmp_path)), "m", POLICY), []
    deferring = Deferring(
        handle, results, model="m", policy=POLICY, max_body_bytes=1000, clock=lambda: 1000.0
    )

    async def test() -> None:
        request = deferred("r-1")
        deferring(request, told.append)
        await asyncio.to_thread(noting.wait, 10.0)
        request.abandon()
        await asyncio.sleep(0)  # which ends the task that would answer
        gone.set()
        await deferring.close(10.0)

    asyncio.run(test())
    assert told == []
    found = results.get(Ticket("r-1"), 1000.0)
    assert found is not None
    assert found.status == 200


@pytest.mark.parametrize("id", ["../x", "a b", "x" * 65, "ä"])
def test_an_id_is_no_path(world: World, id: str) -> None:
    status, body, _ = world.submit(id)
    assert (status, "up to 64 letters" in body["error"]) == (400, True)
    with pytest.raises(RequestError):
        world.results.get(Ticket(id), world.now)
