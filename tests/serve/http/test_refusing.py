"""Who is not let in is told so by the head alone."""

from __future__ import annotations

import pytest

from raymlops.serve.http.heads import Heads
from raymlops.serve.web import Request, Response
from tests.serve.http.talking import HEAD, Talk


def refuse(request: Request) -> Response | None:
    return Response.error(401, "no key") if "x-api-key" not in request.headers else None


def test_who_is_not_let_in_sends_no_large_body() -> None:
    waiting = Talk(options={"admit": refuse}).feed(
        HEAD + b"Expect: 100-continue\r\nContent-Length: 3\r\n\r\n"
    )
    large = Talk(options={"admit": refuse}).feed(HEAD + b"Transfer-Encoding: chunked\r\n\r\n")
    for talk in (waiting, large):
        assert [(status, closes) for status, _, closes in talk.answers] == [(401, True)]
        assert talk.asked == []


def test_who_is_not_let_in_keeps_the_connection_after_a_small_body() -> None:
    talk = Talk(options={"admit": refuse}).feed(HEAD + b"Content-Length: 3\r\n\r\n")
    assert talk.answers == []
    talk.feed(b"abc" + HEAD + b"X-API-Key: k\r\nContent-Length: 1\r\n\r\nd")
    assert [(status, closes) for status, _, closes in talk.answers] == [(401, False), (200, False)]
    assert [request.body for request, _ in talk.asked] == [b"d"]


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (HEAD + b"Content-Length: 3\r\n\r\nabc", 401),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n", 401),
        (HEAD + b"X-API-Key: k\r\nContent-Length: 1001\r\n\r\n", 413),
        (HEAD + b"X-API-Key: k\r\nTransfer-Encoding: chunked\r\n\r\n3E9\r\n" + b"x" * 1001, 413),
        (HEAD + b"X-API-Key: k\r\nContent-Length: 3\r\n\r\nabc", 200),
    ],
)
@pytest.mark.parametrize("is_known", [True, False])
def test_what_no_handler_sees_is_told_of(sent: bytes, status: int, is_known: bool) -> None:
    # Nobody counted who had no key, or sent too much.
    told: list[tuple[str, int]] = []

    def refused(request: Request, response: Response) -> None:
        told.append((request.path, response.status))

    heads = Heads(lambda _, reply: reply(Response(200)), refuse)
    for _ in range(2 if is_known else 0):
        Talk(options={"heads": heads}).feed(sent)
    talk = Talk(options={"heads": heads, "admit": refuse, "refused": refused}).feed(sent)
    assert [found for found, *_ in talk.answers] == [status]
    assert told == ([] if status == 200 else [("/infer", status)])


def test_what_is_no_request_is_nobodys() -> None:
    told: list[Request] = []
    options = {"refused": lambda request, _: told.append(request)}
    assert Talk(options=options).feed(b"BREW\r\n\r\n").answers[0][0] == 400
    assert told == []
