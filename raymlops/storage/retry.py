"""When to try again: exponential waits with jitter, for failures that pass by themselves."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from raymlops.errors import UnavailableError

Result = TypeVar("Result")

# Of its own: a training seeds the process's, which would give its workers the same waits, and a
# model that draws from it would draw others after a failure.
_RANDOM = random.Random()


@dataclass(frozen=True, kw_only=True)
class RetryPolicy:
    """At most `max_attempts`; waits double from `first_wait_s` up to `longest_wait_s`."""

    max_attempts: int = 8
    first_wait_s: float = 0.1
    longest_wait_s: float = 5.0

    def __post_init__(self) -> None:
        if self.max_attempts < 1:
            raise ValueError(f"max_attempts is {self.max_attempts}, needs at least 1")
        if not 0 <= self.first_wait_s <= self.longest_wait_s:
            raise ValueError(
                f"first_wait_s is {self.first_wait_s}, longest_wait_s {self.longest_wait_s};"
                " needs 0 <= first <= longest"
            )


def wait_s(policy: RetryPolicy, *, failures: int, draw: float) -> float | None:
    """Seconds to wait after that many failures in a row; None says to give up.

    `draw` in [0, 1) spreads the waits of many clients over the upper half of each, so that those
    whom one outage stopped do not come back in step.
    """
    if failures >= policy.max_attempts:
        return None
    # 2 ** 1000 is beyond a float, and the cap is reached long before.
    longest = min(policy.longest_wait_s, policy.first_wait_s * 2.0 ** min(failures - 1, 60))
    return longest * (0.5 + draw / 2)


class Attempts:
    """Failures in a row of one operation; waits between them, and at last gives up."""

    def __init__(
        self,
        policy: RetryPolicy,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
        draw: Callable[[], float] = _RANDOM.random,
    ) -> None:
        self._policy = policy
        self._clock, self._sleep, self._draw = clock, sleep, draw
        self._started = clock()
        self._failures = 0

    def progressed(self) -> None:
        """What comes next is not in a row with the failures before."""
        self._started = self._clock()
        self._failures = 0

    def wait_after(self, error: UnavailableError) -> None:
        """Sleeps before the next attempt.

        Raises:
            UnavailableError: there is none; says how often and how long it was tried.
        """
        self._failures += 1
        pause_s = wait_s(self._policy, failures=self._failures, draw=self._draw())
        if pause_s is None:
            tried_s = self._clock() - self._started
            raise UnavailableError(
                f"{error}; gave up after {self._failures} attempts in {tried_s:.1f} s"
            ) from error
        self._sleep(pause_s)


def retried(call: Callable[[], Result], attempts: Attempts) -> Result:
    """What `call` returns, once it does not raise UnavailableError."""
    while True:
        try:
            return call()
        except UnavailableError as error:
            attempts.wait_after(error)
