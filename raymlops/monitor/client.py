"""The drift-monitor actor, called as if it were a plain object."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from raymlops.cluster import find
from raymlops.errors import ClusterError, RaymlopsError
from raymlops.ledger import ConceptAlarm, Labels
from raymlops.monitor.actor import MonitorStatus
from raymlops.monitor.judging import WindowReport

_PATIENCE_S = 30.0
_RETRY_S = 0.2


class MonitorClient:
    """Blocking calls to the `DriftMonitor` actor `name`; each returns once it has answered.

    A call that a monitor took along when it died, or made room for another, is repeated to the
    one that has the name next: each counts it once, and tells what the repetition changed.

    Raises:
        ClusterError: there has been no monitor for `patience_s`, or it could not be asked.
    """

    def __init__(self, name: str, *, patience_s: float = _PATIENCE_S) -> None:
        self._name = name
        self._patience_s = patience_s

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
        from ray.exceptions import RayActorError, RayError, RayTaskError

        deadline = time.monotonic() + self._patience_s
        while True:
            try:
                # By its name each time, in 0.4 ms: the one of a moment ago may be replaced.
                return ray.get(getattr(find(self._name), method).remote(*arguments))
            except RayTaskError as error:
                if isinstance(error, RaymlopsError):  # raised by the monitor
                    raise
                raise ClusterError(f"the drift monitor failed in {method}: {error}") from error
            except (RayActorError, ClusterError) as error:
                if time.monotonic() > deadline:
                    raise _unanswered(method, error) from error
            except RayError as error:
                raise _unanswered(method, error) from error
            time.sleep(_RETRY_S)


def _unanswered(method: str, error: Exception) -> ClusterError:
    return ClusterError(f"the drift monitor did not answer {method}: {error}")
