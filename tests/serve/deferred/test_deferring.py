"""Requests that are accepted now and answered later, and those that are not."""

from __future__ import annotations

import asyncio
import gzip
from typing import Any

import pytest
from msgspec.structs import replace

from raymlops.serve.deferred import DeferredPolicy
from raymlops.serve.web import Request, answered
from tests.serve.deferred.world import RESULTS, World, deferred


def test_a_preference_is_read_whatever_its_case(world: World) -> None:
    asked = {"prefer": "Wait=10, Respond-Async", "x_request_id": "r-1"}
    status, body, _ = world.ask("POST", "/v2/models/m/infer", **asked)
    assert (status, body) == (202, {"id": "r-1", "status": "pending"})


def test_a_result_is_pending_then_there_then_forgotten(world: World) -> None:
    status, body, headers = world.submit("r-1")
    assert (status, body) == (202, {"id": "r-1", "status": "pending"})
    assert headers == {"location": f"{RESULTS}/r-1", "preference-applied": "respond-async"}
    status, body, headers = world.ask("GET", f"{RESULTS}/r-1")
    assert (status, body["status"], headers["retry-after"]) == (202, "pending", "1")
    world.answer()
    for _ in range(2):
        status, body, headers = world.ask("GET", f"{RESULTS}/r-1")
        assert (status, body, headers) == (200, {"outputs": []}, {"x-arm": "champion"})
    assert world.ask("DELETE", f"{RESULTS}/r-1")[0] == 200
    assert world.ask("GET", f"{RESULTS}/r-1")[0] == 404


def test_a_refusal_is_a_result_too(world: World) -> None:
    world.submit("r-1")
    world.answer(b'{"error": "field"}', status=400)
    assert world.ask("GET", f"{RESULTS}/r-1")[:2] == (400, {"error": "field"})


@pytest.mark.parametrize("path", ["/v2/health/live", "/v2/repository/models/m/load", "/nothing"])
def test_what_is_no_request_to_infer_is_not_deferred(world: World, path: str) -> None:
    """Health needs no key, and whoever asked for it wrote into the store under any id."""
    head = Request("POST", path, headers={"prefer": "respond-async"})
    assert world.deferring.sort(head) == world._handle


def test_what_met_a_full_queue_can_be_asked_again(world: World) -> None:
    """It was kept for an hour, and every submission under its id was answered 202 and dropped."""
    world.submit("r-1")
    world.answer(b'{"error": "the queue is full"}', status=503)
    assert world.ask("GET", f"{RESULTS}/r-1")[:2] == (503, {"error": "the queue is full"})
    assert world.submit("r-1", webhook="https://hooks.example/a/b")[0] == 202
    assert world.ask("GET", f"{RESULTS}/r-1")[0] == 202
    assert world.submit("r-1")[0] == 202
    world.answer()
    assert len(world.asked) == 2
    assert world.ask("GET", f"{RESULTS}/r-1")[:2] == (200, {"outputs": []})
    assert world.told == [("https://hooks.example/a/b", 200, "r-1")]


def test_few_are_pending_at_a_time(world: World) -> None:
    world.submit("r-1")
    world.submit("r-2")
    status, body, headers = world.submit("r-3")
    assert (status, body) == (503, {"error": "2 requests are pending; try again later"})
    assert headers == {"retry-after": "1"}


def test_what_is_refused_anyway_is_not_read(world: World) -> None:
    """A flood of requests beyond `max_pending` had each body parsed in a thread."""
    unreadable = Request("POST", "/v2/models/m/infer", headers={"prefer": "respond-async"})
    unreadable.body = b'{"id": "a/b"}'
    assert world.send(unreadable).status == 400
    hooked = {"prefer": "respond-async", "webhook": "https://elsewhere/"}
    assert world.send(replace(unreadable, headers=hooked)).status == 403
    world.submit("r-1")
    world.submit("r-2")
    assert world.send(unreadable).status == 503


def test_what_is_not_accepted_is_told_of(world: World) -> None:
    def send(body: bytes, **headers: str) -> None:
        headers = {"prefer": "respond-async"} | headers
        world.send(Request("POST", "/predict", headers=headers, body=body))

    send(b"{")
    send(b"{}", webhook="http://elsewhere/")
    send(b"{}", **{"content-encoding": "br"})
    send(gzip.compress(bytes(1001)), **{"content-encoding": "gzip"})
    send(b"{}")
    send(b"{}")
    send(b"{}")
    assert world.refused == [400, 403, 415, 413, 503]
    assert len(world.asked) == 2


def test_requests_that_come_together_are_counted_together(world: World) -> None:
    async def submit() -> list[int]:
        asked = [answered(world.deferring, deferred(f"r-{index}")) for index in range(3)]
        return [response.status for response in await asyncio.gather(*asked)]

    assert sorted(world.runner.run(submit())) == [202, 202, 503]


def test_accepted_work_goes_on_when_its_client_leaves(world: World) -> None:
    # As a server says that finds its client gone before it could write the 202, which may have
    # waited behind the answer to an earlier request.
    request = deferred("r-1")
    assert world.send(request).status == 202
    request.abandon()
    world.answer()
    assert world.ask("GET", f"{RESULTS}/r-1")[:2] == (200, {"outputs": []})


def test_others_are_answered_at_once(world: World) -> None:
    assert world.ask("POST", "/v2/models/m/infer")[:2] == (200, "at once")
    assert world.ask("GET", "/v2")[:2] == (200, "at once")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"ttl_s": 0.0}, r"ttl_s is 0\.0"),
        ({"webhooks": ("https://hooks.example",)}, "is no http"),
        ({"webhooks": ("ftp://hooks.example/",)}, "is no http"),
    ],
)
def test_impossible_policies_are_refused(values: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DeferredPolicy(**values)
