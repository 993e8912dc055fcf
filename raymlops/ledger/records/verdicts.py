"""What was judged of models in service: performance, drift, alarms."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, kw_only=True)
class Performance:
    """A metric of one arm over one window of event time, with its 95 % interval."""

    model: str
    version: str
    arm: str
    window_start: datetime
    window_end: datetime
    metric: str
    num_rows: int
    value: float
    low: float
    high: float


@dataclass(frozen=True, kw_only=True)
class SlicePerformance:
    """A metric of the rows of one arm and window whose `feature` lies in `part`."""

    model: str
    version: str
    arm: str
    window_start: datetime
    window_end: datetime
    feature: str
    part: str
    metric: str
    num_rows: int
    value: float
    low: float
    high: float


@dataclass(frozen=True, kw_only=True)
class Drift:
    """How far one feature's window lies from the reference profile of `version`."""

    model: str
    version: str
    window_start: datetime
    window_end: datetime
    feature: str
    test: str
    num_rows: int
    effect: float
    p_value: float
    drifted: bool


@dataclass(frozen=True, kw_only=True)
class ConceptAlarm:
    """The errors of a version in an arm became more than they were, says `detector`.

    Raised at `request_id`, after `num_labels` labelled requests since it last began anew; the
    mean error was `reference_rate` and is `recent_rate`. `id` and `at` are the ledger's.
    """

    model: str
    version: str
    arm: str
    detector: str
    request_id: str
    event_time: datetime
    num_labels: int
    reference_rate: float
    recent_rate: float
    id: int = 0
    at: datetime | None = None
