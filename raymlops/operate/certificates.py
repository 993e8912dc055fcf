"""What the doors say of the certificates that they show, as a signal for alerts."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

from raymlops.errors import ClusterError
from raymlops.monitor.alerts import Severity, Signal
from raymlops.monitor.alerts.episodes import SEVERITIES
from raymlops.monitor.alerts.signals import CERTIFICATE

_DAY_S = 86_400.0
# Whichever is less. Most are renewed when a third of their time is left, some last for six days.
_SOON_S, _SOON_SHARE = 14 * _DAY_S, 0.3
_URGENT_S, _URGENT_SHARE = 2 * _DAY_S, 0.1

_logger = logging.getLogger(__name__)


def doors() -> Sequence[dict[str, Any]]:
    """What each door says of itself; none where no Ray is.

    Raises:
        ClusterError: a door does not answer.
    """
    ray = sys.modules.get("ray")  # its import takes a second
    if ray is None or not ray.is_initialized():
        return ()
    from raymlops.serve import standing

    return standing()


class Trouble(NamedTuple):
    severity: Severity
    summary: str


class Certificates:
    """How the doors' certificates are at each look.

    Of several doors the worst is told: they are renewed together, or were forgotten together.
    """

    def __init__(
        self,
        read_doors: Callable[[], Sequence[dict[str, Any]]],
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._read_doors = read_doors
        self._clock = clock

    def look(self) -> tuple[Signal, ...]:
        try:
            found = self._read_doors()
        except ClusterError as error:
            _logger.warning("no door says which certificate it shows: %s", error)
            return ()
        if not found:
            return ()
        now_s = self._clock()
        troubles = [trouble for door in found if (trouble := trouble_of(door, now_s)) is not None]
        worst = max(troubles, key=lambda each: SEVERITIES.index(each.severity), default=None)
        return (
            Signal(
                name=CERTIFICATE,
                model="doors",
                firing=worst is not None,
                severity="warning" if worst is None else worst.severity,
                summary="" if worst is None else worst.summary,
                evidence={"doors": len(found), "in_trouble": len(troubles)},
            ),
        )


def trouble_of(door: dict[str, Any], now_s: float) -> Trouble | None:
    """What is wrong, at `now_s`, with the certificate of a door; None also where it has none."""
    shown = door.get("certificate")  # doors of earlier versions say nothing of it
    if shown is None:
        return None
    since, until = shown["since"], shown["until"]
    if until is None:
        return None if door["problem"] is None else Trouble("critical", door["problem"])
    left_s, lasts_s = until - now_s, until - since
    when = f"{datetime.fromtimestamp(until, UTC):%Y-%m-%d %H:%M} UTC"
    if left_s <= 0:
        return Trouble("critical", f"the certificate {shown['file']} ran out at {when}")
    if now_s < since:
        start = f"{datetime.fromtimestamp(since, UTC):%Y-%m-%d %H:%M} UTC"
        return Trouble("critical", f"the certificate {shown['file']} is not good before {start}")
    urgent = left_s < min(_URGENT_S, _URGENT_SHARE * lasts_s)
    if urgent or left_s < min(_SOON_S, _SOON_SHARE * lasts_s):
        told = f"the certificate {shown['file']} runs out at {when}"
        if door["problem"] is not None:
            told += f"; {door['problem']}"
        return Trouble("critical" if urgent else "warning", told)
    return None if door["problem"] is None else Trouble("warning", door["problem"])
