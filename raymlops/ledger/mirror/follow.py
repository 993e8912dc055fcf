"""A mirror that is kept up with, again and again, whatever happens to its store."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from threading import Event

from raymlops.config import check_durations
from raymlops.errors import RaymlopsError
from raymlops.ledger.mirror.mirror import Copied

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class FollowPolicy:
    """A look every `every_s` seconds; while MLflow is down the waits double, to `longest_s`."""

    every_s: float = 5.0
    longest_s: float = 300.0

    def __post_init__(self) -> None:
        check_durations(self, "every_s", "longest_s")
        if self.every_s > self.longest_s:
            raise ValueError(
                f"every_s {self.every_s:g} must be at most longest_s {self.longest_s:g}"
            )


def delay_s(policy: FollowPolicy, num_failures: int) -> float:
    """How long to wait after `num_failures` failures in a row; 0 means the last look succeeded."""
    # Beyond 60 doublings every float is past any `longest_s`, and 2.0 ** 2000 would overflow.
    return min(policy.longest_s, policy.every_s * 2.0 ** min(num_failures, 60))


def follow(
    catch_up: Callable[[], Copied],
    policy: FollowPolicy,
    ended: Event,
    *,
    copied: Callable[[Copied], None] = lambda _: None,
) -> None:
    """Calls `catch_up` until `ended` is set, and `copied` with what each success copied.

    A store that is down is logged once, and once more when it is back; nothing is raised for it.
    """
    num_failures = 0
    while not ended.is_set():
        try:
            found = catch_up()
        except RaymlopsError as error:
            if num_failures == 0:
                _logger.warning("the mirror falls behind, and catches up later: %s", error)
            num_failures += 1
        else:
            if num_failures:
                _logger.warning("the mirror is back after %d failed looks", num_failures)
            num_failures = 0
            copied(found)
        ended.wait(delay_s(policy, num_failures))
