"""How many replicas a model has, by the requests they have in work.

Ray Serve's autoscaler counts what comes by its own proxy and handles, and nothing comes by these.
So each replica tells it how many requests it had in work on average, and the policy here makes a
number of replicas of that; bounds, delays and the starting are Serve's.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from raymlops.config import check_durations

if TYPE_CHECKING:
    from ray.serve.config import AutoscalingContext

_IN_WORK = "requests_in_work"


@dataclass(frozen=True, kw_only=True)
class Autoscaling:
    """As many replicas, within bounds, as have `target_in_work` requests in work each.

    Args:
        target_in_work: requests of one replica that wait or run, on average; more of them make
            larger batches and longer answers.
        over_s: over which time that average is taken; Serve asks every ten seconds, so more.
        up_after_s: how long more replicas must be wanted before there are.
        down_after_s: likewise fewer; what has just been needed may be needed again.
    """

    min_replicas: int = 1
    max_replicas: int
    target_in_work: float = 16.0
    over_s: float = 30.0
    up_after_s: float = 10.0
    down_after_s: float = 300.0

    def __post_init__(self) -> None:
        if not 1 <= self.min_replicas <= self.max_replicas:
            raise ValueError(
                f"min_replicas is {self.min_replicas} and max_replicas {self.max_replicas}; "
                "at least 1 and no more than max_replicas are needed"
            )
        if not self.target_in_work > 0:
            raise ValueError(f"target_in_work is {self.target_in_work}, more than 0 is needed")
        if not self.over_s > 10:
            raise ValueError(f"over_s is {self.over_s}; Serve asks every 10 s, so more are needed")
        check_durations(self, "over_s")
        check_durations(self, "up_after_s", "down_after_s", may_be_zero=True)

    def for_serve(self) -> dict[str, Any]:
        """The same in Ray Serve's terms, see `ray.serve.config.AutoscalingConfig`."""
        return {
            "min_replicas": self.min_replicas,
            "max_replicas": self.max_replicas,
            "target_ongoing_requests": self.target_in_work,
            "look_back_period_s": self.over_s,
            "upscale_delay_s": self.up_after_s,
            "downscale_delay_s": self.down_after_s,
            "policy": {"policy_function": decide},
        }


def wanted(in_work: Sequence[float], target: float, current: int) -> int:
    """Replicas for requests `in_work` by replica; those that have not told count as the mean."""
    if not in_work:
        return current
    return math.ceil(sum(in_work) / len(in_work) * current / target)


def decide(context: AutoscalingContext) -> tuple[int, dict[str, Any]]:
    """What Serve's controller asks, a few times a second."""
    told = (context.aggregated_metrics or {}).get(_IN_WORK, {})
    assert context.config is not None, "Serve asks only where it scales"
    target = context.config.get_target_ongoing_requests()
    return wanted([*told.values()], target, context.current_num_replicas), {}


class WorkMeter:
    """How many requests were in work on average since it was last read.

    By Little's law that is the time they took, all together, by the time that passed; so nothing
    is counted at a request. Those that hang have not ended, hence the number of now as a floor.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._read_at = clock()
        self._spent_s = 0.0

    def read(self, spent_s: float, num_now: int) -> dict[str, float]:
        """Args:
        spent_s: seconds that all requests took so far.
        num_now: how many are in work now.
        """
        now = self._clock()
        passed_s, took_s = now - self._read_at, spent_s - self._spent_s
        self._read_at, self._spent_s = now, spent_s
        mean = took_s / passed_s if passed_s > 0 else 0.0
        return {_IN_WORK: max(mean, float(num_now))}
