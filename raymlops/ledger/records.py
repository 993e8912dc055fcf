"""What the ledger hands out: frozen rows with aware UTC times."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import date, datetime
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from raymlops.ledger.version import Version

RunStatus = Literal["running", "finished", "failed", "lost"]
ReleaseStatus = Literal["running", "promoted", "rolled_back"]


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """One version of a named table; `digest` is over its content, `manifest` names its blobs.

    `format` is parquet, or delta: then the store holds the list of files, not the files. `source`
    says where it came from, `statistics` has a mapping a column, as `data.statistics` writes it.
    """

    name: str
    version: int
    digest: str
    manifest: str
    fields: tuple[tuple[str, str], ...]
    num_rows: int
    size_bytes: int
    description: str
    created_at: datetime
    format: str
    source: Mapping[str, Any] | None
    statistics: tuple[Mapping[str, Any], ...]


@dataclass(frozen=True, kw_only=True)
class Check:
    """One rule, checked on the content `digest`, whether or not it became a version."""

    dataset_name: str
    digest: str
    column: str
    rule: str
    num_broken: int
    num_rows: int
    examples: tuple[str, ...]
    at: datetime

    @property
    def passed(self) -> bool:
        return self.num_broken == 0


@dataclass(frozen=True, kw_only=True)
class Code:
    """The commit code ran from, and the digest of what differed from it (None: nothing)."""

    commit: str
    dirty_digest: str | None


@dataclass(frozen=True, kw_only=True)
class Owner:
    """The process a run belongs to; `host` names machine, boot and process namespace, so that equal
    process ids elsewhere are not taken for it."""

    host: str
    pid: int
    process_started_at: float


@dataclass(frozen=True, kw_only=True)
class Run:
    """`status` is "lost" when the process that owns a running run has died, as of this reading."""

    id: str
    parent_id: str | None
    kind: str
    model: str
    status: RunStatus
    params: Mapping[str, Any]
    code: Code
    config_digest: str
    environment_digest: str
    started_at: datetime
    ended_at: datetime | None
    error: str | None
    owner: Owner | None = None


@dataclass(frozen=True, kw_only=True)
class Artifact:
    """A blob of the store that a run made."""

    name: str
    digest: str
    size_bytes: int
    at: datetime


@dataclass(frozen=True, kw_only=True)
class Metric:
    name: str
    step: int
    value: float
    at: datetime


@dataclass(frozen=True, kw_only=True)
class ModelVersion:
    """A registered bundle; `event_time` is how far its training data reached."""

    model: str
    version: Version
    bundle: str
    signature_digest: str
    run_id: str
    created_at: datetime
    event_time: datetime | None

    def __str__(self) -> str:
        return f"{self.model} {self.version}"


@dataclass(frozen=True, kw_only=True)
class Decision:
    """An act of the system or of a person, with its reason and the numbers behind it.

    `digest` covers all of it and `previous`, the digest of the decision before; see `audit`.
    """

    id: int
    model: str
    kind: str
    outcome: str
    who: str
    why: str
    evidence: Mapping[str, Any]
    at: datetime
    event_time: datetime | None
    previous: str
    digest: str

    @property
    def content(self) -> dict[str, Any]:
        """What the digest covers."""
        chained = ("id", "previous", "digest")
        return {key: value for key, value in vars(self).items() if key not in chained}


@dataclass(frozen=True, kw_only=True)
class AliasMove:
    id: int
    model: str
    alias: str
    version: Version
    decision_id: int
    at: datetime
    event_time: datetime | None


@dataclass(frozen=True, kw_only=True)
class Release:
    id: int
    model: str
    champion: Version
    challenger: Version
    strategy: Mapping[str, Any]
    status: ReleaseStatus
    state: Mapping[str, Any]
    started_at: datetime
    event_time: datetime | None
    ended_at: datetime | None


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """One answered request: float32 `scores` [rows], in the order of the request's rows.

    `slices` are little-endian uint16 [1 + features to slice by, rows], a mark of which features
    these are and the cell of the version's reference profile that each row falls into; None where
    performance is not sliced.
    """

    request_id: str
    model: str
    version: str
    arm: str
    scores: bytes
    num_rows: int
    served_at: datetime
    event_time: datetime
    replica: str
    slices: bytes | None = None


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
class Labels:
    """What came true for one request, `labels` [rows] in the request's row order: 0/1 as int8, or
    what `number_labels` makes of numbers."""

    request_id: str
    model: str
    labels: bytes
    at: datetime


NUMBERS = b"f"
"""Before numbers, so that four classes are not taken for one of them."""


def number_labels(values: NDArray[Any]) -> bytes:
    """The labels of a model that says numbers, `values` [rows]."""
    return NUMBERS + values.astype("<f4").tobytes()


def label_values(labels: bytes, num_rows: int) -> NDArray[Any] | None:
    """`labels` as int8 or float32 [rows]; None when they are of another number of rows."""
    if labels[:1] == NUMBERS:
        numbers = labels[1:]
        return np.frombuffer(numbers, dtype="<f4") if len(numbers) == 4 * num_rows else None
    return np.frombuffer(labels, dtype=np.int8) if len(labels) == num_rows else None


@dataclass(frozen=True, kw_only=True)
class Pane:
    """One arm's traffic of one UTC day of event time, as counts that merge by addition.

    `cells` [profile.num_cells] are rows by cell of the version's reference profile, `latency`
    answered requests by bucket, `num_failed` requests that ended in an error of the server.
    """

    model: str
    version: str
    arm: str
    day: date
    num_rows: int
    num_failed: int
    cells: NDArray[np.int64]
    latency: tuple[int, ...]

    def __getstate__(self) -> dict[str, Any]:
        """Between processes counts take as few bytes as they need: those of a thousand rows 2."""
        smallest = np.min_scalar_type(int(self.cells.max(initial=0)))
        return {**vars(self), "cells": self.cells.astype(smallest)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state, cells=state["cells"].astype(np.int64))

    def __add__(self, other: Pane) -> Pane:
        """Both panes' traffic; the identity stays that of the left one."""
        return replace(
            self,
            num_rows=self.num_rows + other.num_rows,
            num_failed=self.num_failed + other.num_failed,
            cells=self.cells + other.cells,
            latency=tuple(a + b for a, b in zip(self.latency, other.latency, strict=True)),
        )


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """A prediction whose labels have arrived: `scores` float32 and `labels` int8 or float32, both
    [rows].

    `slices` [1 + features to slice by, rows] are a mark of which features these are and cells of
    the version's profile; None is not sliced.
    """

    request_id: str
    version: str
    arm: str
    event_time: datetime
    scores: NDArray[np.float32]
    labels: NDArray[Any]
    slices: NDArray[np.uint16] | None = None


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
