"""What a client may not hold for ever: lines without an end, memory, time."""

from __future__ import annotations

import tracemalloc

import pytest

from raymlops.serve.http.limits import HttpLimits, Phase, overdue
from tests.serve.http.talking import HEAD, Talk

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
