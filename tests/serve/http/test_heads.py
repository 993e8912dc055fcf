"""Heads that came before are known, and read no second time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raymlops.serve.http.heads import Heads
from raymlops.serve.web import Handler, Reply, Request, Response, Sorting
from tests.serve.http.talking import HEAD, Talk

ALIKE = (
    HEAD + b"Content-Length: 5\r\n\r\nfirst",
    HEAD + b"Content-Length: 5\r\n\r\nother",
    HEAD + b"Content-Length: 0\r\n\r\n",
    HEAD + b"Content-Length: 4\r\n\r\n\r\n\r\n",
    b"\r\n" + HEAD + b"Content-Length: 5\r\n\r\nfirst",
    HEAD + b"Connection: Upgrade\r\nUpgrade: h2c\r\nContent-Length: 5\r\n\r\nfirst",
    b"GET /no HTTP/1.1\r\nHost: a\r\n\r\n",
    b"HEAD /no HTTP/1.1\r\nHost: a\r\n\r\n",
    HEAD + b"Connection: close\r\nContent-Length: 1\r\n\r\nx",
    HEAD + b"Expect: 100-continue\r\nContent-Length: 1\r\n\r\nx",
    HEAD + b"Transfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n",
)


@given(
    parts=st.lists(st.sampled_from([*ALIKE, *ALIKE, ALIKE[0][:-3], b"rst", ALIKE[6] * 2])),
    belongs=st.booleans(),
)
def test_heads_that_came_before_are_read_as_the_first_time(
    parts: list[bytes], belongs: bool
) -> None:
    def options(heads: Heads) -> dict[str, Any]:
        return {
            "heads": heads,
            "belongs": lambda path: belongs or path != "/no",
            "admit": _no_get,
        }

    switch = _Switch()
    known = Heads(switch, _no_get)
    for sent in ALIKE * 3:
        Talk(options=options(known)).feed(sent)
    ours, reference = Talk(options=options(known)), Talk(options=options(_Forgetful(switch)))
    switch.handler = ours.handle
    for part in parts:
        ours.feed(part)
        reference.feed(part)
        assert ours.machine.phase is reference.machine.phase
        assert ours.machine.strayed == reference.machine.strayed
    assert ours.written == reference.written
    assert [request for request, _ in map(_plain, ours.asked)] == [
        request for request, _ in map(_plain, reference.asked)
    ]


def _no_get(request: Request) -> Response | None:
    return Response(401) if request.method == "GET" else None


@dataclass
class _Switch:
    """A handler that hands on to another, which may be replaced."""

    handler: Handler = lambda _, reply: reply(Response(200))

    def __call__(self, request: Request, reply: Reply) -> None:
        self.handler(request, reply)


class _Forgetful(Heads):
    def find(self, data: bytes) -> None:
        return None


def _plain(asked: tuple[Request, Reply]) -> tuple[tuple[object, ...], Reply]:
    request, reply = asked
    return (request.method, request.path, dict(request.headers), request.body), reply


def test_a_head_is_known_from_its_second_time_on_and_only_with_its_length() -> None:
    handler = _Switch()
    heads = Heads(handler)
    request = Request("POST", "/infer", headers={"content-length": "2"})
    head = HEAD + b"Content-Length: 2\r\n\r\n"
    heads.learn(head + b"ab", request, 2)
    assert heads.find(head + b"ab") is None
    heads.learn(head + b"cd", request, 2)
    found = heads.find(head + b"ef")
    assert found is not None
    assert (found.head, found.handler, found.start) == (request, handler, len(head))
    assert heads.find(head + b"e") is None
    assert heads.find(head + b"efg") is None
    assert heads.find(head) is None


def test_a_known_head_holds_nothing_of_the_request_it_was_learned_from() -> None:
    came_with: list[set[str]] = []

    def handle(request: Request, reply: Reply) -> None:
        came_with.append(set(request.headers))
        request.headers = {**request.headers, "x-request-id": request.body.decode()}
        request.on_gone = lambda: None
        reply(Response(200))

    heads = Heads(handle)
    for body in (b"first", b"other", b"third", b"again"):
        talk = Talk(options={"heads": heads})
        talk.machine._handler = handle
        talk.feed(HEAD + b"Content-Length: 5\r\n\r\n" + body)
    assert came_with == [{"host", "content-length"}] * 4
    found = heads.find(ALIKE[0])
    assert found is not None
    assert (found.head.body, found.head.on_gone) == (b"", None)


def test_what_a_head_decides_is_asked_once() -> None:
    class Counting(Sorting):
        num_asked = 0

        def sort(self, head: Request) -> Handler:
            self.num_asked += 1
            head.params = {"path": head.path}
            return lambda request, reply: reply(Response(200, str(request.params).encode()))

    handler = Counting()
    heads = Heads(handler)
    for times in range(1, 6):
        talk = Talk(options={"heads": heads})
        talk.machine._handler = handler
        talk.feed(ALIKE[0])
        assert [(status, body) for status, body, _ in talk.answers] == [
            (200, b"{'path': '/infer'}")
        ]
        assert handler.num_asked == min(times, 2) + (times > 1)  # kept at the second


def test_heads_are_bounded_in_number_and_size() -> None:
    heads = Heads(_Switch())
    for number in range(5_000):
        head = b"GET /%d HTTP/1.1\r\n\r\n" % number
        for _ in range(2):
            heads.learn(head, Request("GET", f"/{number}"), 0)
    sent = [b"GET /%d HTTP/1.1\r\n\r\n" % number for number in range(5_000)]
    assert 0 < sum(heads.find(each) is not None for each in sent) <= 1024
    long = b"GET /" + b"x" * 3000 + b" HTTP/1.1\r\n\r\n"
    for _ in range(3):
        heads.learn(long, Request("GET", "/x"), 0)
    assert heads.find(long) is None


def test_a_handler_that_fails_is_a_500_also_where_the_head_is_known(
    caplog: pytest.LogCaptureFixture,
) -> None:
    switch = _Switch()
    heads = Heads(switch)
    for _ in range(3):
        Talk(options={"heads": heads}).feed(ALIKE[0])
    switch.handler = lambda *_: 1 / 0  # type: ignore[assignment]
    talk = Talk(options={"heads": heads}).feed(ALIKE[0])
    assert [(status, closes) for status, _, closes in talk.answers] == [(500, True)]
    assert "ZeroDivisionError" in caplog.text
