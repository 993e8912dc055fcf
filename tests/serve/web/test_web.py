from __future__ import annotations

import asyncio

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from raymlops.errors import RequestError
from raymlops.serve.web import Handler, Reply, Request, Response, Routes, later


def ask(handler: Handler, request: Request) -> list[Response]:
    replies: list[Response] = []
    handler(request, replies.append)
    return replies


def saying(text: str) -> Handler:
    def handler(request: Request, reply: Reply) -> None:
        reply(Response(200, orjson.dumps({"handler": text, **request.params})))

    return handler


@pytest.fixture
def routes() -> Routes:
    routes = Routes()
    routes.add("GET", "/v1/models/{model}", saying("status"))
    routes.add("POST", "/v1/models/{model}:predict", saying("predict"))
    routes.add("DELETE", "/v1/models/{model}:predict", saying("delete"))
    routes.add("GET", "/docs/{page:path}", saying("docs"))
    return routes


@pytest.mark.parametrize(
    ("method", "path", "wanted"),
    [
        ("GET", "/v1/models/flights", {"handler": "status", "model": "flights"}),
        ("HEAD", "/v1/models/flights", {"handler": "status", "model": "flights"}),
        ("POST", "/v1/models/a.b:predict", {"handler": "predict", "model": "a.b"}),
        ("GET", "/docs/a/b.html", {"handler": "docs", "page": "a/b.html"}),
    ],
)
def test_a_path_finds_its_handler(
    routes: Routes, method: str, path: str, wanted: dict[str, str]
) -> None:
    for _ in range(2):  # the second time from memory
        (response,) = ask(routes, Request(method, path))
        assert orjson.loads(response.body) == wanted


def test_a_wrong_method_is_told_the_right_ones(routes: Routes) -> None:
    (response,) = ask(routes, Request("PUT", "/v1/models/flights:predict"))
    assert response.status == 405
    assert response.headers == (("allow", "GET, POST, DELETE"),)


@given(path=st.text())
def test_any_other_path_is_a_404(path: str) -> None:
    routes = Routes()
    routes.add("GET", "/v2", saying("server"))
    (response,) = ask(routes, Request("GET", f"/x{path}"))
    assert response.status == 404
    assert orjson.loads(response.body)["error"].startswith("there is nothing at /x")


def test_two_handlers_for_one_route_are_refused(routes: Routes) -> None:
    with pytest.raises(ValueError, match=r"GET /docs/\{page:path\} has a handler already"):
        routes.add("GET", "/docs/{page:path}", saying("other"))


def test_many_paths_are_not_remembered_for_ever(routes: Routes) -> None:
    for number in range(1000):
        ask(routes, Request("GET", f"/docs/{number}"))
    assert len(routes._remembered) <= 256
    routes._remembered.clear()
    ask(routes, Request("GET", "/docs/" + "x" * 16_000))
    assert not routes._remembered


def test_what_a_handler_raises_is_an_answer(caplog: pytest.LogCaptureFixture) -> None:
    def refusing(request: Request, _: Reply) -> None:
        raise RequestError(409, "not now")

    def broken(request: Request, _: Reply) -> None:
        raise ZeroDivisionError("secret")

    routes = Routes()
    routes.add("GET", "/refusing", refusing)
    routes.add("GET", "/broken", broken)
    (refused,) = ask(routes, Request("GET", "/refusing"))
    (failed,) = ask(routes, Request("GET", "/broken"))
    assert (refused.status, refused.body) == (409, b'{"error":"not now"}')
    assert (failed.status, failed.body) == (500, b'{"error":"internal error, logged"}')
    assert "ZeroDivisionError: secret" in caplog.text


def test_a_coroutine_is_a_handler_too() -> None:
    async def slow(request: Request) -> Response:
        await asyncio.sleep(0)
        if request.path == "/refused":
            raise RequestError(429, "slower")
        return Response(200, request.body)

    async def test() -> None:
        replies: list[Response] = []
        for path in ("/", "/refused"):
            later(slow)(Request("GET", path, body=b"1"), replies.append)
        for _ in range(5):
            await asyncio.sleep(0)
        assert [(each.status, each.body) for each in replies] == [
            (200, b"1"),
            (429, b'{"error":"slower"}'),
        ]

    asyncio.run(test())


def test_a_coroutine_ends_when_its_client_leaves() -> None:
    ended = []

    async def endless(_: Request) -> Response:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(True)
        raise AssertionError

    async def test() -> None:
        request = Request("GET", "/")
        later(endless)(request, lambda _: pytest.fail("nobody is there"))
        await asyncio.sleep(0)
        request.abandon()
        for _ in range(3):
            await asyncio.sleep(0)
        assert ended == [True]

    asyncio.run(test())


def test_a_refusal_says_when_to_come_back_in_whole_seconds() -> None:
    def headers(retry_after_s: float | None, status: int = 503) -> tuple[tuple[str, str], ...]:
        return Response.refusal(RequestError(status, "busy", retry_after_s)).headers

    assert headers(None, status=400) == ()
    assert headers(2.1, status=429) == (("retry-after", "3"),)
    assert headers(None) == (("retry-after", "1"),)  # an engine that died, an unknown speed
    assert headers(0.02) == (("retry-after", "1"),)
    assert headers(2.1) == (("retry-after", "3"),)
