"""Requests that another process answers are kept whole for it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from raymlops.serve.http.heads import Heads
from raymlops.serve.http.limits import Phase
from raymlops.serve.http.machine import Strayed
from raymlops.serve.web import Response
from tests.serve.http.talking import HEAD, Talk


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


def test_what_belonged_here_may_belong_elsewhere_later() -> None:
    """As to a door what is asked of a model that has no replica yet, head for head the same."""
    at_home = True
    heads = Heads(lambda _, reply: reply(Response(404)))
    talk = Talk(options={"belongs": lambda _: at_home, "heads": heads})
    sent = b"GET /ready HTTP/1.1\r\nHost: a\r\n\r\n"
    talk.feed(sent, sent, sent)
    assert heads.find(sent) is not None
    at_home = False
    talk.feed(sent)
    assert talk.machine.strayed == Strayed("/ready", sent)


def test_a_request_behind_others_that_belongs_elsewhere_is_sent_to_another_connection() -> None:
    talk = Talk(options={"belongs": ours}).feed(
        b"GET /ours HTTP/1.1\r\nHost: a\r\n\r\nGET /theirs HTTP/1.1\r\nHost: a\r\n\r\n"
    )
    assert [(status, closes) for status, _, closes in talk.answers] == [(200, False), (421, True)]
    assert talk.machine.strayed is None
