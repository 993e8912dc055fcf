"""Bytes in, bytes out: what a connection says to whatever a client may send, however it is cut."""

from __future__ import annotations

import tracemalloc
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raymlops.serve.http.encode import Encoder
from raymlops.serve.http.heads import Heads
from raymlops.serve.http.limits import HttpLimits, Phase, overdue
from raymlops.serve.http.machine import Machine, Strayed
from raymlops.serve.web import Handler, Reply, Request, Response, Sorting

LIMITS = HttpLimits(max_head_bytes=400, max_headers=8, max_body_bytes=1000)
HEAD = b"POST /infer HTTP/1.1\r\nHost: a\r\n"


@dataclass
class Talk:
    """A machine, what it wrote, and the requests its handler was given."""

    answers_at_once: bool = True
    written: bytes = b""
    asked: list[tuple[Request, Reply]] = field(default_factory=list)
    options: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.machine = Machine(
            self.handle,
            self.write,
            lambda: None,
            encoder=Encoder(0.0),
            **{"limits": LIMITS, **self.options},
        )

    def write(self, data: bytes) -> None:
        self.written += data

    def handle(self, request: Request, reply: Reply) -> None:
        self.asked.append((request, reply))
        if self.answers_at_once:
            reply(Response(200, b"%s %s" % (request.path.encode(), request.body), "text/plain"))

    def feed(self, *parts: bytes) -> Talk:
        for part in parts:
            self.machine.feed(part)
        return self

    @property
    def answers(self) -> list[tuple[int, bytes, bool]]:
        """Status, body and whether the connection ends, of each answer that was written."""
        found, rest = [], self.written
        while rest:
            head, _, rest = rest.partition(b"\r\n\r\n")
            lines = head.split(b"\r\n")
            fields = dict(line.lower().split(b": ", 1) for line in lines[1:])
            size = int(fields.get(b"content-length", b"0"))
            found.append((int(lines[0].split()[1]), rest[:size], b"connection" in fields))
            rest = rest[size:]
        return found


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


@given(cut=st.integers(1, 120))
def test_an_offer_of_another_protocol_that_belongs_elsewhere_is_kept_whole(cut: int) -> None:
    sent = HEAD + b"Connection: Upgrade\r\nUpgrade: h2c\r\nContent-Length: 1\r\n\r\nx"
    talk = Talk(options={"belongs": ours}).feed(sent[:cut])
    if talk.machine.strayed is None:
        talk.feed(sent[cut:])
    assert talk.machine.strayed is not None
    assert sent.startswith(talk.machine.strayed.read)
    assert talk.machine.strayed.read.find(b"\r\n\r\n") > 0
    assert talk.answers == []


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
            "admit": lambda request: Response(401) if request.method == "GET" else None,
        }

    switch = _Switch()
    known = Heads(switch)
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
    assert heads.find(head + b"ef") == (request, handler, b"ef")
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
    assert (found[0].body, found[0].on_gone) == (b"", None)


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
    assert talk.machine.num_outstanding == 0


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

    heads = Heads(lambda _, reply: reply(Response(200)))
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


CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    "sent",
    [HEAD + b"X: ", CHUNKED + b"0\r\nX: ", CHUNKED + b"1;x=", CHUNKED + b"1\r\na\r\n0\r\nX: "],
)
def test_a_line_that_has_no_end_is_not_held_for_ever(sent: bytes) -> None:
    talk = Talk().feed(sent)
    for _ in range(100):
        talk.feed(b"x" * 100)
    assert [(status, closes) for status, _, closes in talk.answers] == [(431, True)]
    assert talk.asked == []


def test_many_trailers_are_not_read_for_ever() -> None:
    talk = Talk().feed(CHUNKED + b"0\r\n")
    for _ in range(1000):
        talk.feed(b"X: x\r\n")
    assert [(status, closes) for status, _, closes in talk.answers] == [(431, True)]


def test_a_large_body_in_small_chunks_is_no_line_without_end() -> None:
    talk = Talk().feed(CHUNKED)
    for byte in b"1\r\nx\r\n" * 1000 + b"0\r\n\r\n":
        talk.feed(bytes([byte]))
    assert talk.answers == [(200, b"/infer " + b"x" * 1000, False)]


def test_a_body_in_tiny_chunks_takes_hardly_more_memory_than_itself() -> None:
    talk, size = Talk(options={"limits": HttpLimits()}), 400_000
    talk.feed(CHUNKED)
    tracemalloc.start()
    try:
        for _ in range(size // 2000):
            talk.feed(b"2\r\nxy\r\n" * 1000)
        held_bytes, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held_bytes < 2 * size
    talk.feed(b"0\r\n\r\n")
    assert talk.answers == [(200, b"/infer " + b"xy" * (size // 2), False)]


def test_many_requests_at_once_are_no_line_without_end() -> None:
    sent = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
    talk = Talk().feed(sent * 3_000 + sent[:-2], sent[-2:])
    assert [status for status, *_ in talk.answers] == [200] * 3_001


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


def ours(path: str) -> bool:
    return path.startswith("/ours")


@given(cut=st.integers(1, 60))
def test_a_request_that_belongs_elsewhere_is_kept_whole(cut: int) -> None:
    talk = Talk(options={"belongs": ours}).feed(b"GET /ours HTTP/1.1\r\nHost: a\r\n\r\n")
    sent = b"POST /theirs HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody"
    talk.feed(sent[:cut])
    if talk.machine.strayed is None:
        talk.feed(sent[cut:])
        assert talk.machine.strayed == Strayed("/theirs", sent)
    else:
        assert talk.machine.strayed == Strayed("/theirs", sent[:cut])
    assert [status for status, *_ in talk.answers] == [200]
    assert talk.machine.phase is Phase.DONE


def test_a_request_behind_others_that_belongs_elsewhere_is_sent_to_another_connection() -> None:
    talk = Talk(options={"belongs": ours}).feed(
        b"GET /ours HTTP/1.1\r\nHost: a\r\n\r\nGET /theirs HTTP/1.1\r\nHost: a\r\n\r\n"
    )
    assert [(status, closes) for status, _, closes in talk.answers] == [(200, False), (421, True)]
    assert talk.machine.strayed is None


@pytest.mark.parametrize(
    ("phase", "in_phase_s", "silent_s", "wanted"),
    [
        (Phase.IDLE, 74.0, 74.0, None),
        (Phase.IDLE, 75.0, 0.0, "no request for 75 s"),
        (Phase.HEAD, 9.0, 9.0, None),
        (Phase.HEAD, 10.0, 0.0, "the head took over 10 s"),
        (Phase.BODY, 59.0, 9.0, None),
        (Phase.BODY, 59.0, 10.0, "no byte of the body for 10 s"),
        (Phase.BODY, 60.0, 0.0, "the body took over 60 s"),
        (Phase.DONE, 1e9, 1e9, None),
    ],
)
def test_patience_ends(
    phase: Phase, in_phase_s: float, silent_s: float, wanted: str | None
) -> None:
    found = overdue(phase, in_phase_s=in_phase_s, silent_s=silent_s, limits=HttpLimits())
    assert found == wanted


def test_a_limit_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="max_headers is 0, it must be positive"):
        HttpLimits(max_headers=0)
