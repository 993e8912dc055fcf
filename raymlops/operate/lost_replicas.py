"""What Serve and the doors say of replicas that are lost, as a signal for alerts."""

from __future__ import annotations

import logging
import math
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping

from raymlops.errors import ClusterError
from raymlops.monitor.alerts import Signal
from raymlops.monitor.alerts.signals import REPLICA
from raymlops.serve import application_name, pool_name

_MODEL_PREFIX, _POOL_PREFIX = application_name(""), pool_name("")
_OURS = (_MODEL_PREFIX, _POOL_PREFIX)
_CALM_S = 300.0
_LOST = ("UNHEALTHY", "DEPLOY_FAILED")

_logger = logging.getLogger(__name__)


def serve_statuses() -> dict[str, str]:
    """The status of each of Serve's applications, in its own words; none where no Ray is.

    Raises:
        ClusterError: Serve's controller does not answer.
    """
    ray = sys.modules.get("ray")  # its import takes a second, and Serve's more
    if ray is None or not ray.is_initialized():
        return {}
    from ray import serve
    from ray.exceptions import RayError
    from ray.serve.exceptions import RayServeException

    try:
        applications = serve.status().applications
    except (RayError, RayServeException) as error:
        raise ClusterError(f"Serve's controller does not answer: {error}") from error
    return {name: each.status.value for name, each in applications.items()}


def losses() -> Counter[str]:
    """By model, how many replicas the doors have seen die; none where no Ray is.

    Raises:
        ClusterError: a door does not answer.
    """
    ray = sys.modules.get("ray")
    if ray is None or not ray.is_initialized():
        return Counter()
    from raymlops.serve import standing

    return sum((Counter(door["lost"]) for door in standing()), Counter())


class LostReplicas:
    """What became of the replicas since the last look.

    Serve says which applications have none; one that died and was replaced in between is in the
    count of a door alone. Five minutes without another loss end the episode: replicas that die
    again and again are one. While Serve says nothing, nothing is told; what is lost meanwhile is
    told of afterwards.
    """

    def __init__(
        self,
        read_statuses: Callable[[], Mapping[str, str]],
        read_losses: Callable[[], Mapping[str, int]],
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._read_statuses = read_statuses
        self._read_losses = read_losses
        self._clock = clock
        self._lost_at_s: dict[str, float] = {}
        self._before: Counter[str] | None = None

    def look(self) -> tuple[Signal, ...]:
        try:
            statuses = self._read_statuses()
        except ClusterError as error:
            _logger.warning("nobody says which replicas are lost: %s", error)
            return ()
        died = self._died()
        told: dict[str, str | None] = {
            _subject(name): status for name, status in statuses.items() if name.startswith(_OURS)
        }
        # The models of a pool have no application of their own; doors count what each lost.
        told |= {model: None for model in self._before or () if model not in told}
        signals = [
            _signal(subject, status, died[subject])
            for subject, status in told.items()
            if status in (*_LOST, "RUNNING", None)
        ]
        now_s = self._clock()
        self._lost_at_s |= {signal.model: now_s for signal in signals if signal.firing}
        return tuple(
            signal
            for signal in signals
            if signal.firing or now_s - self._lost_at_s.get(signal.model, -math.inf) >= _CALM_S
        )

    def _died(self) -> Counter[str]:
        """Replicas lost since the last look; none at the first, which only learns the count."""
        try:
            now = Counter(self._read_losses())
        except ClusterError as error:
            _logger.warning("no door says which replicas were lost: %s", error)
            return Counter()
        before, self._before = now if self._before is None else self._before, now
        return now - before  # of a door that was started again, and counts anew, none


def _subject(application: str) -> str:
    """Whose it is: a model, or a pool, which no model can be called like."""
    if application.startswith(_POOL_PREFIX):
        return f"pool {application.removeprefix(_POOL_PREFIX)}"
    return application.removeprefix(_MODEL_PREFIX)


def _signal(model: str, status: str | None, number: int) -> Signal:
    if status in _LOST:
        summary = f"replicas of {model} are lost: Serve says {status}"
    else:
        summary = f"{number} replicas of {model} died and were replaced"
    return Signal(
        name=REPLICA,
        model=model,
        firing=status in _LOST or number > 0,
        severity="critical" if status in _LOST else "warning",
        summary=summary,
        evidence={"status": status, "died": number},
    )
