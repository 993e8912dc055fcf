from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raymlops.errors import RequestError
from raymlops.serve.client.conversation import Attempt, Lost, Pause, converse
from raymlops.serve.client.messages import Reply
from raymlops.serve.client.retrying import RetryPolicy, wait_s

POLICY = RetryPolicy(retries=3, base_s=0.1, max_wait_s=1.0)


def reply(status: int, **headers: str) -> Reply:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Reply(
        status=status, headers={"content-type": "application/json"} | named, body=b'{"error":"no"}'
    )


@pytest.mark.parametrize(
    ("attempt", "came", "chance", "wait"),
    [
        (1, None, 1.0, 0.1),
        (2, None, 1.0, 0.2),
        (3, None, 0.5, 0.2),
        (4, None, 1.0, None),
        (1, reply(503), 0.5, 0.05),
        (1, reply(429), 0.5, 0.05),
        (1, reply(503, retry_after="0.5"), 0.5, 0.5),
        (1, reply(503, retry_after="2"), 0.5, None),
        (1, reply(503, retry_after="tomorrow"), 0.5, 0.05),
        (1, reply(503, retry_after="nan"), 0.5, 0.05),
        (1, reply(500), 0.5, None),
        (1, reply(502, content_type="text/html"), 0.5, 0.05),
        (1, reply(400), 0.5, None),
    ],
)
def test_a_wait_grows_and_honours_the_server(
    attempt: int, came: Reply | None, chance: float, wait: float | None
) -> None:
    found = wait_s(POLICY, attempt, came, left_s=10.0, chance=chance)
    assert found == (None if wait is None else pytest.approx(wait))


def test_nobody_waits_beyond_the_deadline() -> None:
    assert wait_s(POLICY, 1, None, left_s=0.05, chance=1.0) is None


@given(
    attempt=st.integers(1, 9),
    left_s=st.floats(0, 10),
    chance=st.floats(0, 1),
    retries=st.integers(0, 9),
)
def test_waits_are_bounded(attempt: int, left_s: float, chance: float, retries: int) -> None:
    policy = RetryPolicy(retries=retries, base_s=0.1, max_wait_s=1.0)
    wait = wait_s(policy, attempt, None, left_s=left_s, chance=chance)
    assert wait is None or (0 <= wait <= 1.0 and wait < left_s and attempt <= retries)


class Script:
    """Plays a conversation with what came of each attempt, on a clock that pauses move."""

    def __init__(self, *came: Reply | Lost, took_s: float = 0.0) -> None:
        self.now = 0.0
        self.attempts: list[float] = []
        self.pauses: list[float] = []
        self._came = list(came)
        self._took_s = took_s

    def play(self, **policy: Any) -> Reply:
        steps = converse(
            "http://server",
            RetryPolicy(**policy),
            timeout_s=1.0,
            clock=lambda: self.now,
            chance=lambda: 1.0,
        )
        step = next(steps)
        try:
            while True:
                if isinstance(step, Attempt):
                    self.attempts.append(step.timeout_s)
                    self.now += self._took_s
                    step = steps.send(self._came.pop(0))
                else:
                    assert isinstance(step, Pause)
                    self.pauses.append(step.seconds)
                    self.now += step.seconds
                    step = steps.send(None)
        except StopIteration as end:
            found: Reply = end.value
            return found


def test_all_attempts_share_one_deadline() -> None:
    script = Script(Lost("reset"), reply(503), reply(200), took_s=0.25)
    assert script.play(retries=2, base_s=0.1).status == 200
    assert script.attempts == pytest.approx([1.0, 0.65, 0.2])
    assert script.pauses == pytest.approx([0.1, 0.2])


@pytest.mark.parametrize(
    ("came", "status", "message"),
    [
        (Lost("slow", timed_out=True), 504, "http://server did not answer in time, 1 s"),
        (Lost("refused"), 503, "http://server cannot be reached: refused"),
        (reply(503), 503, "no"),
        (reply(400), 400, "no"),
    ],
)
def test_what_did_not_pass_is_raised(came: Reply | Lost, status: int, message: str) -> None:
    with pytest.raises(RequestError, match=message) as raised:
        Script(came).play(retries=0)
    assert raised.value.status == status


@pytest.mark.parametrize(
    ("values", "message"), [({"retries": -1}, "retries is -1"), ({"base_s": 9.0}, "base_s is 9.0")]
)
def test_a_policy_that_makes_no_sense_is_refused(values: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        RetryPolicy(**values)
