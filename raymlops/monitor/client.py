"""The drift-monitor actor, called as if it were a plain object."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from raymlops.errors import ClusterError, RaymlopsError
from raymlops.ledger import ConceptAlarm, Labels
from raymlops.monitor.actor import MonitorStatus
from raymlops.monitor.judging import WindowReport


class MonitorClient:
    """Blocking calls to a `DriftMonitor` actor; each returns once the monitor has answered.

    Raises:
        ClusterError: the actor is away. Every call may be repeated: the monitor counts it once.
    """

    def __init__(self, handle: Any) -> None:
        self._handle = handle

    def label(self, labels: Sequence[Labels]) -> int:
        return int(self._call("label", list(labels)))

    def advance(self, model: str, watermark: datetime) -> tuple[WindowReport, ...]:
        reports: tuple[WindowReport, ...] = self._call("advance", model, watermark)
        return reports

    def watch(self, model: str) -> tuple[ConceptAlarm, ...]:
        alarms: tuple[ConceptAlarm, ...] = self._call("watch", model)
        return alarms

    def status(self, model: str) -> MonitorStatus:
        status: MonitorStatus = self._call("status", model)
        return status

    def _call(self, method: str, *arguments: Any) -> Any:
        import ray
        from ray.exceptions import RayError

        try:
            return ray.get(getattr(self._handle, method).remote(*arguments))
        except RayError as error:
            if isinstance(error, RaymlopsError):  # raised by the monitor, not on the way to it
                raise
            raise ClusterError(f"the drift monitor did not answer {method}: {error}") from error
