"""Letters to sinks: tried again with growing patience, kept as dead when that has an end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from raymlops.config import check_durations
from raymlops.monitor.alerts.episodes import Alert

_MOST_FACTOR = 100
_LONGEST_ASKED_S = 3600.0  # a sink that asks for more patience is tried all the same


@dataclass(frozen=True, kw_only=True)
class RetryPolicy:
    """Seconds before the second attempt, growing by `factor` up to `longest_s`; how many in all:
    with these a sink may be away for a day, as over a night in which nobody looks."""

    first_s: float = 2.0
    factor: float = 2.0
    longest_s: float = 600.0
    max_attempts: int = 150

    def __post_init__(self) -> None:
        check_durations(self, "first_s", "longest_s")
        if self.longest_s < self.first_s:
            raise ValueError(
                f"first_s is {self.first_s} and longest_s {self.longest_s}; the first must not be "
                "above the second"
            )
        if not 1 <= self.factor <= _MOST_FACTOR or self.max_attempts < 1:
            raise ValueError(
                f"factor is {self.factor} and max_attempts {self.max_attempts}; at least 1 each, "
                f"and the first at most {_MOST_FACTOR}"
            )

    def wait_s(self, attempts: int) -> float:
        """How long to wait after so many attempts have failed."""
        # Beyond 64 a float would overflow, long after `longest_s` was reached.
        return min(self.longest_s, self.first_s * self.factor ** min(attempts - 1, 64))


@dataclass(frozen=True, kw_only=True)
class Letter:
    """An alert for one sink; `dead_because` says why nobody tries any more."""

    alert: Alert
    sink: str
    due_at: datetime
    attempts: int = 0
    error: str | None = None
    dead_because: str | None = None

    @property
    def is_dead(self) -> bool:
        return self.dead_because is not None


def due(letters: Sequence[Letter], now: datetime, policy: RetryPolicy) -> tuple[Letter, ...]:
    """The letters to be tried now: of each sink and episode in order, the first that is left.

    So nobody is told that an episode is over before being told that it began. One that is due in
    more than the longest wait there is was put off by a clock that was set back since.
    """
    longest = timedelta(seconds=max(policy.longest_s, _LONGEST_ASKED_S))
    first: dict[tuple[str, str], Letter] = {}
    for letter in letters:
        if not letter.is_dead:
            first.setdefault((letter.sink, letter.alert.id), letter)
    return tuple(
        letter for letter in first.values() if letter.due_at <= now or letter.due_at - now > longest
    )


def failed(
    letter: Letter,
    error: str,
    now: datetime,
    policy: RetryPolicy,
    *,
    permanent: bool,
    retry_after_s: float = 0.0,
) -> Letter:
    """The letter after an attempt that failed; the sink asked to be left alone for so long."""
    attempts = letter.attempts + 1
    if permanent:
        dead = f"refused: {error}"
    elif attempts >= policy.max_attempts:
        dead = f"{attempts} attempts failed, the last: {error}"
    else:
        dead = None
    wait_s = max(policy.wait_s(attempts), min(retry_after_s, _LONGEST_ASKED_S))
    return replace(
        letter,
        attempts=attempts,
        error=error,
        dead_because=dead,
        due_at=now + timedelta(seconds=wait_s),
    )


def revived(letter: Letter, now: datetime) -> Letter:
    """A dead letter, to be tried again as if it were new."""
    return replace(letter, attempts=0, dead_because=None, due_at=now)
