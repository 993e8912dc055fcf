from __future__ import annotations

import asyncio
import gzip
import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
from msgspec.structs import replace

from raymlops.errors import RequestError, StorageError
from raymlops.serve.deferred import DeferredPolicy, Deferring, Results, Ticket
from raymlops.serve.deferred.handler import call_back
from raymlops.serve.web import Reply, Request, Response, answered
from raymlops.storage import Files

POLICY = DeferredPolicy(
    ttl_s=100.0, lost_after_s=10.0, max_pending=2, webhooks=("https://hooks.example/a/",)
)
RESULTS = "/v2/models/m/results"


def deferred(id: str) -> Request:
    headers = {"prefer": "respond-async", "x-request-id": id}
    return Request("POST", "/v2/models/m/infer", headers=headers, body=b"{}")


class World:
    """A handler that answers when it is told to, behind the one that defers."""

    def __init__(self, folder: Path) -> None:
        self.runner = asyncio.Runner()
        self.now = 1000.0
        self.waiting: list[Reply] = []
        self.asked: list[Request] = []
        self.told: list[tuple[str, int, str]] = []
        self.refused: list[int] = []
        self.folder = str(folder)
        self.results = Results(Files(self.folder), "m", POLICY)
        self.deferring = Deferring(
            self._handle,
            self.results,
            model="m",
            policy=POLICY,
            max_body_bytes=1000,
            refused=self._note_refusal,
            owner=lambda request: request.headers.get("x-api-key", ""),
            call=self._call,
            clock=lambda: self.now,
        )

    def ask(self, method: str, path: str, **headers: str) -> tuple[int, Any, dict[str, str]]:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        response = self.send(Request(method, path, headers=named, body=b"{}"))
        return response.status, json.loads(response.body), dict(response.headers)

    def send(self, request: Request) -> Response:
        return self.runner.run(self._ask(request))

    def submit(self, id: str, **headers: str) -> tuple[int, Any, dict[str, str]]:
        path = "/v2/models/m/infer"
        return self.ask("POST", path, prefer="respond-async", x_request_id=id, **headers)

    def answer(self, body: bytes = b'{"outputs": []}', status: int = 200) -> None:
        """What the oldest request waits for; returns when it is kept."""

        async def reply() -> None:
            self.waiting.pop(0)(Response(status, body, headers=(("x-arm", "champion"),)))
            await self.deferring.close(10.0)

        self.runner.run(reply())

    def _handle(self, request: Request, reply: Reply) -> None:
        self.asked.append(request)
        if "prefer" in request.headers:
            self.waiting.append(reply)
            request.on_gone = lambda: self.waiting.remove(reply)
        else:
            reply(Response(200, b'"at once"'))

    def _note_refusal(self, _: Request, response: Response) -> None:
        self.refused.append(response.status)

    async def _call(self, url: str, response: Response, id: str) -> None:
        if response.status == 500:
            raise httpx.InvalidURL("nobody")
        self.told.append((url, response.status, id))

    async def _ask(self, request: Request) -> Response:
        answer: asyncio.Future[Response] = asyncio.get_running_loop().create_future()
        self.deferring(request, answer.set_result)
        response = await asyncio.wait_for(answer, 10.0)
        await asyncio.sleep(0)  # what was submitted begins
        return response


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path)
    yield world
    world.runner.close()


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


@pytest.mark.parametrize("path", ["/v2/health/live", "/v2/repository/models/m/load", "/nothing"])
def test_what_is_no_request_to_infer_is_not_deferred(world: World, path: str) -> None:
    """Health needs no key, and whoever asked for it wrote into the store under any id."""
    head = Request("POST", path, headers={"prefer": "respond-async"})
    assert world.deferring.sort(head) == world._handle


def test_what_an_earlier_version_kept_is_found(world: World) -> None:
    Files(world.folder).write("results/m/r-1", b'{"at":1000.0}')
    assert world.submit("r-1")[0] == 202
    assert world.ask("GET", f"{RESULTS}/r-1")[0] == 202
    assert world.asked == []


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


def test_another_replica_finds_the_result(world: World, tmp_path: Path) -> None:
    world.submit("r-1")
    world.answer()
    other = Results(Files(str(tmp_path)), "m", POLICY)
    found = other.get(Ticket("r-1"), world.now)
    assert found is not None
    assert found.body == b'{"outputs": []}'


def test_results_are_kept_for_a_while(world: World) -> None:
    world.submit("r-1")
    world.answer()
    world.now += 99.0
    assert world.ask("GET", f"{RESULTS}/r-1")[0] == 200
    assert world.results.sweep(world.now) == 0
    world.now += 1.0
    status, body, _ = world.ask("GET", f"{RESULTS}/r-1")
    assert (status, "is older than 100 s" in body["error"]) == (404, True)
    assert world.results.sweep(world.now) == 1


def test_a_sweep_reads_no_result_whose_time_is_known(world: World) -> None:
    """Each replica read all results, a megabyte each, every minute."""
    read: list[str] = []

    class Counted(Files):
        def read(self, name: str) -> bytes:
            read.append(name)
            return super().read(name)

    results = Results(Counted(world.folder), "m", POLICY)
    other = Results(Counted(world.folder), "m2", POLICY)
    results.finish(Ticket("r-1"), Response(200, b"a"), 1000.0)
    results.begin(Ticket("r-2"), 1000.0)
    other.finish(Ticket("r-3"), Response(200, b"a"), 1000.0)
    assert [results.sweep(1001.0), results.sweep(1002.0)] == [0, 0]
    assert sorted(read) == ["results/m/r-1", "results/m/r-2", "results/m/r-2"]
    assert results.sweep(1010.0) == 1  # what was lost
    results.forget(Ticket("r-1"))
    results.finish(Ticket("r-1"), Response(200, b"b"), 1050.0)  # after it was asked for again
    assert [results.sweep(1100.0), results.sweep(1149.0)] == [0, 0]
    assert results.sweep(1150.0) == 1
    assert other.sweep(1150.0) == 1


def test_what_is_no_result_is_left_alone(world: World) -> None:
    """A file of somebody else's kept all results from being swept."""
    files = Files(world.folder)
    files.write("results/m/.DS_Store", b"\0\0\0\1Bud1")
    world.results.finish(Ticket("r-1"), Response(200, b"a"), 1000.0)
    assert world.results.sweep(1100.0) == 1
    assert list(files.list("results/")) == ["results/m/.DS_Store"]
    files.write("results/m/r-2", b"half a lin")
    with pytest.raises(StorageError, match="results/m/r-2 is no result, remove it"):
        world.results.sweep(1100.0)


def test_what_was_lost_with_its_replica_can_be_asked_again(world: World) -> None:
    world.results.begin(Ticket("r-1"), world.now)  # by a replica that died
    world.now += 10.0
    assert world.ask("GET", f"{RESULTS}/r-1")[0] == 404
    assert world.submit("r-1")[0] == 202
    assert len(world.asked) == 1


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


def test_whom_to_call_back_is_for_the_settings_to_say(world: World) -> None:
    assert world.submit("r-1", webhook="https://hooks.example/a/b")[0] == 202
    world.answer()
    assert world.told == [("https://hooks.example/a/b", 200, "r-1")]
    assert POLICY.allows("https://hooks.example/a/b%20c?at=100%25")
    for url in (
        "https://hooks.example/b",
        "https://hooks.example/a/../b",
        "https://hooks.example/a/.%2E/b",
        "https://hooks.example/a/%252e%252e/b",
        "https://hooks.example/a/%2525252525252e/b",
        "https://hooks.example.evil/a/",
        "http://127.0.0.1/",
    ):
        status, body, _ = world.submit("r-2", webhook=url)
        assert (status, "serve.deferred.webhooks" in body["error"]) == (403, True)


def test_the_log_holds_no_url_of_a_webhook_which_may_be_a_secret(
    world: World, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def reject(url: str, _: Response, __: str) -> None:
        raise httpx.HTTPStatusError(
            f"404 for {url}", request=httpx.Request("POST", url), response=httpx.Response(404)
        )

    world.deferring._call = reject
    monkeypatch.setattr("raymlops.serve.deferred.handler._CALL_BACKS", 1)
    webhook = "https://hooks.example/a/T0KEN"
    world.runner.run(world.deferring._tell(webhook, Response(200), "r-1"))
    message = "the webhook at hooks.example is not told of r-1 (1): it answers 404"
    assert caplog.messages == [message]


@pytest.mark.parametrize(
    ("said", "raised"),
    [(b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 100_000, None), (b"HTTP/1.1 2", TimeoutError)],
)
def test_who_is_called_back_is_not_listened_to_for_ever(
    said: bytes, raised: type[Exception] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("raymlops.serve.deferred.handler._CALL_BACK_TIMEOUT_S", 0.5)
    heard: list[bytes] = []

    async def test() -> None:
        left = asyncio.Event()

        async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            heard.append(await reader.readuntil(b"{}"))
            with suppress(OSError):
                while not writer.is_closing():  # says a head, or a body, that has no end
                    writer.write(said)
                    await writer.drain()
                    await asyncio.sleep(0.01)
            left.set()

        async with await asyncio.start_server(talk, "127.0.0.1", 0) as server:
            url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/hook"
            try:
                async with asyncio.timeout(5.0):
                    await call_back(url, Response(200, b"{}"), "r-1")
            finally:
                await left.wait()

    with pytest.raises(raised) if raised else nullcontext():
        asyncio.run(test())
    assert b"x-request-id: r-1" in heard[0]


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


def test_a_webhook_that_is_slow_keeps_no_replica_from_its_end(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    """Three attempts of ten seconds are more than a replica has to drain, which was killed then
    before it told the monitor of its last answers."""

    async def never(*_: object) -> None:
        await asyncio.Event().wait()

    world.deferring._call = never
    world.submit("r-1", webhook="https://hooks.example/a/b")

    async def end() -> None:
        world.waiting.pop(0)(Response(200, b'"kept"'))
        await asyncio.wait_for(world.deferring.close(0.2), 5.0)

    world.runner.run(end())
    assert world.ask("GET", f"{RESULTS}/r-1")[:2] == (200, "kept")
    assert caplog.messages == ["1 deferred requests are given up"]


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
