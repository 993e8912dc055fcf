"""Bytes in, bytes out: what a connection says to whatever a client may send, however it is cut."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raymlops.serve.http.limits import Phase
from raymlops.serve.web import Response
from tests.serve.http.talking import HEAD, Talk


def test_an_answer_is_written_as_http_has_it() -> None:
    talk = Talk().feed(HEAD + b"Content-Length: 2\r\n\r\nhi")
    assert talk.written == (
        b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 9\r\n"
        b"date: Thu, 01 Jan 1970 00:00:00 GMT\r\n\r\n/infer hi"
    )
    assert not talk.machine.is_over
    assert talk.machine.is_between_requests


def test_a_request_is_what_was_sent() -> None:
    talk = Talk(options={"peer": "10.0.0.1"}).feed(
        b"PUT /caf%C3%A9%2Fau/lait?x=1&y=%20 HTTP/1.1\r\nHost: a\r\nX-One: 1\r\nx-one: 2\r\n"
        b"Content-Length: 3\r\n\r\nabc"
    )
    ((request, _),) = talk.asked
    assert (request.method, request.path) == ("PUT", "/café/au/lait")
    assert (request.query, request.body, request.peer) == ("x=1&y=%20", b"abc", "10.0.0.1")
    assert request.headers["x-one"] == "1, 2"


def test_an_absolute_url_is_its_path() -> None:
    assert Talk().feed(b"GET http://a:80/p?q HTTP/1.1\r\nHost: a\r\n\r\n").asked[0][0].path == "/p"


@pytest.mark.parametrize(
    "host", ["", "a", "a:", "a:80", "a_b-1.example", "127.0.0.1:80", "[::1]:80", "%C3%A4", " a "]
)
def test_a_host_may_be_written_in_many_ways(host: str) -> None:
    talk = Talk().feed(b"GET /p HTTP/1.1\r\nHost: %b\r\n\r\n" % host.encode())
    assert talk.answers == [(200, b"/p ", False)]


def test_http_1_0_gets_one_answer_a_connection() -> None:
    talk = Talk().feed(b"GET /old HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
    assert talk.answers == [(200, b"/old ", True)]
    assert talk.machine.is_over


GOOD = (
    HEAD + b"Content-Length: 5\r\n\r\nfirst"
    b"GET /second HTTP/1.1\r\nHost: a\r\n\r\n"
    + HEAD
    + b"Transfer-Encoding: chunked\r\n\r\n3\r\nthi\r\n2\r\nrd\r\n0\r\nTrailer: x\r\n\r\n"
    + b"\r\nHEAD /head HTTP/1.1\r\nHost: a\r\n\r\n"
    + HEAD
    + b"Expect: 100-continue\r\nContent-Length: 5\r\n\r\nfifth"
    + HEAD
    + b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nContent-Length: 5\r\n\r\nsixth"
)
LAST = b"GET /last HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\nGET /never HTTP/1.1\r\n"
BAD = {
    400: (
        b"\x16\x03\x01\x02\x00\x01\x00",
        b"BREW / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nX: 1\r\nHost: a\r\n\r\n",
        b"GET / HTTP/1.0\r\nHost: a b\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a/b@c\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a:b\r\n\r\n",
        b"GET / HTTP/1.1\nHost: a\n\n",
        HEAD + b"Content-Length: 3\r\nContent-Length: 4\r\n\r\nabc",
        HEAD + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        HEAD + b"Content-Length: -1\r\n\r\n",
        HEAD + b"Content-Length: 99999999999999999999999\r\n\r\n",
        HEAD + b"Broken header\r\n\r\n",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
    ),
    413: (
        HEAD + b"Content-Length: 1001\r\n\r\n" + b"x" * 1001,
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + b"64\r\n" + b"x" * 100 + b"\r\n" + (
            b"3E8\r\n" + b"x" * 1000 + b"\r\n0\r\n\r\n"
        ),
    ),
    414: (b"GET /" + b"x" * 500 + b" HTTP/1.1\r\nHost: a\r\n\r\n",),
    417: (HEAD + b"Expect: a miracle\r\nContent-Length: 1\r\n\r\nx",),
    431: (
        HEAD + b"X: " + b"x" * 500 + b"\r\n\r\n",
        HEAD + b"".join(b"X-%d: 1\r\n" % number for number in range(9)) + b"\r\n",
    ),
    501: (
        HEAD + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        b"CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n",
    ),
    505: (b"GET / HTTP/2.0\r\nHost: a\r\n\r\n",),
}  # fmt: skip


@pytest.mark.parametrize(
    ("status", "sent"), [(status, sent) for status, cases in BAD.items() for sent in cases]
)
def test_what_cannot_be_taken_is_refused_once_and_ends_the_connection(
    status: int, sent: bytes
) -> None:
    talk = Talk().feed(sent, b"GET /ignored HTTP/1.1\r\nHost: a\r\n\r\n")
    ((found, body, closes),) = talk.answers
    assert (found, closes) == (status, True)
    assert b'"error"' in body
    assert talk.machine.is_over
    assert talk.asked == []


@given(data=st.data())
def test_any_cut_of_the_bytes_gives_the_same_answers(data: st.DataObject) -> None:
    bad = data.draw(st.sampled_from([LAST, *(sent for cases in BAD.values() for sent in cases)]))
    sent = GOOD + bad
    cuts = sorted(data.draw(st.lists(st.integers(0, len(sent)), max_size=12)))
    parts = [sent[a:b] for a, b in zip([0, *cuts], [*cuts, len(sent)], strict=True) if a < b]
    whole = [each for each in Talk().feed(sent).answers if each[0] != 100]
    assert [each for each in Talk().feed(*parts).answers if each[0] != 100] == whole
    assert [
        each for each in Talk().feed(*([bytes([b]) for b in sent])).answers if each[0] != 100
    ] == whole


@pytest.mark.parametrize(
    "framed",
    [b"Content-Length: 4\r\n\r\nbody", b"Transfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n\r\n"],
)
def test_an_offer_of_another_protocol_is_ignored_and_costs_no_body(framed: bytes) -> None:
    offer = b"X-One: 1\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n"
    sent = HEAD.replace(b"infer", b"infer?x=%20") + offer + framed
    talk = Talk().feed(sent * 2 + LAST)
    assert talk.answers == [
        (200, b"/infer body", False),
        (200, b"/infer body", False),
        (200, b"/last ", True),
    ]
    request = talk.asked[0][0]
    assert (request.method, request.query, request.headers["x-one"]) == ("POST", "x=%20", "1")


@given(data=st.binary(max_size=300), head=st.sampled_from([b"", HEAD, GOOD]))
def test_garbage_is_answered_or_waited_for_and_nothing_else(data: bytes, head: bytes) -> None:
    talk = Talk().feed(head + data)
    assert all(
        status in (100, 200, 400, 413, 414, 417, 431, 501, 505) for status, *_ in talk.answers
    )
    assert talk.machine.is_over or talk.machine.phase is not Phase.DONE


@given(order=st.permutations(range(5)))
def test_answers_come_in_the_order_of_the_requests(order: list[int]) -> None:
    talk = Talk(answers_at_once=False)
    talk.feed(b"".join(b"GET /%d HTTP/1.1\r\nHost: a\r\n\r\n" % number for number in range(5)))
    for number in order:
        talk.asked[number][1](Response(200, b"%d" % number))
    assert [body for _, body, _ in talk.answers] == [b"0", b"1", b"2", b"3", b"4"]
    assert len(talk.machine.unanswered) == 0


def test_a_second_answer_is_ignored() -> None:
    talk = Talk().feed(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    talk.asked[0][1](Response(500))
    assert [status for status, *_ in talk.answers] == [200]


def test_a_head_is_answered_without_its_body() -> None:
    talk = Talk().feed(b"HEAD /x HTTP/1.1\r\nHost: a\r\n\r\n")
    assert b"content-length: 3\r\n" in talk.written
    assert talk.written.endswith(b"\r\n\r\n")


def test_a_body_is_asked_for_when_its_answer_is_the_next() -> None:
    talk = Talk(answers_at_once=False)
    talk.feed(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n" + HEAD + b"Expect: 100-continue\r\n")
    talk.feed(b"Content-Length: 1\r\n\r\n")
    assert talk.written == b""
    talk.asked[0][1](Response(200))
    assert [status for status, *_ in talk.answers] == [200, 100]
    talk.feed(b"x")
    assert talk.asked[1][0].body == b"x"


def test_what_is_finished_answers_all_it_has_received_and_says_which_is_the_last() -> None:
    talk = Talk(answers_at_once=False)
    talk.feed(b"GET /0 HTTP/1.1\r\nHost: a\r\n\r\n" * 2 + HEAD + b"Content-Length: 1\r\n")
    talk.machine.finish()
    talk.feed(b"\r\nx", b"GET /never HTTP/1.1\r\nHost: a\r\n\r\n")
    for _, reply in list(talk.asked):
        reply(Response(200))
    assert [closes for *_, closes in talk.answers] == [False, False, True]
    assert talk.machine.is_over


def test_who_works_for_a_client_that_has_gone_is_told() -> None:
    gone: list[str] = []
    talk = Talk(answers_at_once=False).feed(b"GET /0 HTTP/1.1\r\nHost: a\r\n\r\n" * 2)
    for request, _ in talk.asked:
        request.on_gone = lambda: gone.append("told")
    talk.machine.lose()
    talk.asked[0][1](Response(200))
    assert (gone, talk.written) == (["told", "told"], b"")


def test_a_header_cannot_smuggle_another_one_in() -> None:
    talk = Talk(answers_at_once=False).feed(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    talk.asked[0][1](Response(200, headers=(("x-echo", "a\r\nset-cookie: b"),)))
    assert b"\r\nx-echo: a  set-cookie: b\r\n" in talk.written


def test_a_handler_that_breaks_is_the_servers_fault(caplog: pytest.LogCaptureFixture) -> None:
    talk = Talk()
    talk.machine._handler = lambda request, reply: 1 / 0  # type: ignore[assignment, return-value]
    talk.feed(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    assert [(status, closes) for status, _, closes in talk.answers] == [(500, True)]
    assert "ZeroDivisionError" in caplog.text
