"""One request from first attempt to answer, as steps for a client to take; no network.

steps = converse(call, ...)
Attempt(timeout_s) --> the client sends, and sends back what came of it
Pause(seconds)     --> the client sleeps
...                    returns the reply, or raises RequestError
"""

from __future__ import annotations

import random
from collections.abc import Callable, Generator
from dataclasses import dataclass

from raymlops.errors import RequestError
from raymlops.serve.client.messages import Reply
from raymlops.serve.client.retrying import RetryPolicy, wait_s


@dataclass(frozen=True, slots=True)
class Attempt:
    """Send the request, and wait for `timeout_s` at most."""

    timeout_s: float


@dataclass(frozen=True, slots=True)
class Pause:
    """Send nothing for so long."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Lost:
    """There is no reply: the connection failed, or the time was over."""

    reason: str
    timed_out: bool = False


Steps = Generator[Attempt | Pause, Reply | Lost | None, Reply]


def converse(
    url: str,
    policy: RetryPolicy,
    *,
    timeout_s: float,
    clock: Callable[[], float],
    chance: Callable[[], float] = random.random,
) -> Steps:
    """The reply of a request that may be sent again, within `timeout_s` in all.

    Raises:
        RequestError: the server refused it (its status), could not be reached (503), or did not
            answer in time (504).
    """
    deadline = clock() + timeout_s
    attempt = 0
    while True:
        attempt += 1
        came = yield Attempt(max(0.001, deadline - clock()))
        assert came is not None, "an attempt comes to something"
        if isinstance(came, Reply) and came.status < 300:
            return came
        if isinstance(came, Lost) and came.timed_out:
            raise RequestError(504, f"{url} did not answer in time, {timeout_s:g} s")
        reply = came if isinstance(came, Reply) else None
        pause = wait_s(policy, attempt, reply, left_s=deadline - clock(), chance=chance())
        if pause is None:
            raise _error(url, came)
        yield Pause(pause)


def _error(url: str, came: Reply | Lost) -> RequestError:
    if isinstance(came, Lost):
        return RequestError(503, f"{url} cannot be reached: {came.reason}")
    return RequestError(came.status, came.error)
