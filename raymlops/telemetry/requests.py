"""Requests counted at a fraction of a microsecond each: noted as they are, binned in bulk.

    note ──► journal: 6 floats a request, preallocated ──(full, or somebody asks)──► fold ──► counts

The journal is a few kilobytes that stay in the cache; binning thousands of rows at once costs
numpy less than looking up the buckets of one costs Python.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from raymlops.telemetry import catalogue
from raymlops.telemetry.catalogue import OTHER, Metric
from raymlops.telemetry.snapshot import Series, merge

NONE = "none"
"""The version and arm of a request that was refused before it had any."""

UNKNOWN_S = -1.0
"""The length of a part of a request that nobody measured; it is counted nowhere."""

_ROW = struct.Struct("=6d")  # series, rows, then seconds: all, queue, batch, engine
_pack = _ROW.pack_into
_CAPACITY = 512  # folded in a tenth of a millisecond
_MAX_SERIES = 128
# An hour, of who reads every second: long enough that all of it was read, and told on.
_IDLE_READS = 3600
_PARTS = (catalogue.DURATION, catalogue.QUEUE, catalogue.BATCH, catalogue.ENGINE)

_KINDS: Mapping[int, str] = {
    400: "invalid",
    401: "unauthorized",
    403: "unauthorized",
    404: "not_found",
    405: "invalid",
    408: "timeout",
    413: "too_large",
    429: "rate_limited",
    503: "overloaded",
    504: "timeout",
}

_STATUS_OF: Mapping[str, int] = {"ok": 200, "refused": 400, "failed": 500}


def outcome_of(status: int) -> str:
    """Refused is the client's fault, failed the server's, overload included."""
    if status < 400:
        return "ok"
    return "refused" if status < 500 else "failed"


def kind_of(status: int) -> str:
    """What was wrong with a request that ended in an HTTP `status` of 400 or more."""
    return _KINDS.get(status, "invalid" if status < 500 else "internal")


class _Key(NamedTuple):
    version: str
    arm: str
    status: int


class Measured(Protocol):
    """A request that ended: its rows, and seconds by part, `UNKNOWN_S` where nobody measured."""

    @property
    def num_rows(self) -> int: ...

    @property
    def latency_s(self) -> float: ...

    @property
    def queue_s(self) -> float: ...

    @property
    def batch_s(self) -> float: ...

    @property
    def engine_s(self) -> float: ...


class _Single(NamedTuple):
    num_rows: int
    latency_s: float
    queue_s: float
    batch_s: float
    engine_s: float


class RequestMeter:
    """Counts the requests of one model in one thread, or event loop.

    Of versions, arms and statuses at most `max_series` combinations are told apart, so that no
    client and no release can grow a replica. One that comes after takes the place of the longest
    idle, whose `series` ends then, if that had no request for `idle_reads` calls of `series`; else
    it is counted under "other".
    """

    def __init__(
        self,
        model: str,
        *,
        capacity: int = _CAPACITY,
        max_series: int = _MAX_SERIES,
        idle_reads: int = _IDLE_READS,
    ) -> None:
        self._model = model
        self._journal = bytearray(_ROW.size * capacity)
        self._rows = np.frombuffer(self._journal, dtype=np.float64).reshape(capacity, 6)
        self._end = len(self._journal)
        self._offset = 0
        self._keys: list[_Key] = []
        self._known: dict[tuple[str, str, int], int] = {}
        self._max_series = max_series
        self._idle_reads = idle_reads
        self._num_reads = 0
        room = max_series + len(_STATUS_OF)  # the last are those of what is "other"
        self._requests = np.zeros(room, dtype=np.int64)
        self._rows_answered = np.zeros(room, dtype=np.int64)
        self._used_at = np.zeros(room, dtype=np.int64)  # how often `series` was read by then
        self._bounds_ns = [_integers(part) for part in _PARTS]
        self._sums = np.zeros((len(_PARTS), room), dtype=np.int64)
        self._buckets = [
            np.zeros((room, len(bounds) + 1), dtype=np.int64) for bounds in self._bounds_ns
        ]

    def note(
        self,
        version: str,
        arm: str,
        status: int,
        rows: int,
        total_s: float,
        queue_s: float = UNKNOWN_S,
        batch_s: float = UNKNOWN_S,
        engine_s: float = UNKNOWN_S,
    ) -> None:
        """Counts a request that ended with an HTTP `status`, and how long it took."""
        single = _Single(rows, total_s, queue_s, batch_s, engine_s)
        self.note_all(version, arm, status, (single,))

    def note_all(self, version: str, arm: str, status: int, requests: Iterable[Measured]) -> None:
        """Counts requests that all ended so: a third of the time for each of a full batch."""
        series = self._known.get((version, arm, status))
        if series is None:
            series = self._add(_Key(version, arm, status))
        journal, offset, end = self._journal, self._offset, self._end
        for each in requests:
            _pack(
                journal,
                offset,
                series,
                each.num_rows,
                each.latency_s,
                each.queue_s,
                each.batch_s,
                each.engine_s,
            )
            offset += _ROW.size
            if offset == end:
                self._offset = offset
                self._fold()
                offset = 0
        self._offset = offset

    def series(self) -> tuple[Series, ...]:
        """Everything counted so far."""
        self._fold()
        self._num_reads += 1
        return merge(self._series())

    def _add(self, key: _Key) -> int:
        """The index of `key`, or that of "other" where there is no room for it."""
        if len(self._keys) >= self._max_series:
            if (index := self._vacated()) is not None:
                self._known[key], self._keys[index] = index, key
                return index
            key = _Key(OTHER, OTHER, _STATUS_OF[outcome_of(key.status)])
            if key in self._known:
                return self._known[key]
        self._known[key] = len(self._keys)
        self._used_at[len(self._keys)] = self._num_reads
        self._keys.append(key)
        return self._known[key]

    def _vacated(self) -> int | None:
        """The index of the longest idle series, of which nothing is left; None where none is."""
        index = int(np.argmin(self._used_at[: self._max_series]))
        if self._num_reads - self._used_at[index] < self._idle_reads:
            return None
        self._fold()
        if self._num_reads - self._used_at[index] < self._idle_reads:
            return None  # the journal had some of it
        del self._known[self._keys[index]]
        self._used_at[index] = self._num_reads
        for counts in (self._requests, self._rows_answered, *self._sums, *self._buckets):
            counts[index] = 0
        return index

    def _fold(self) -> None:
        used = self._offset // _ROW.size
        self._offset = 0
        if not used:
            return
        rows = self._rows[:used]
        series, num = rows[:, 0].astype(np.int64), len(self._keys)
        self._used_at[series] = self._num_reads
        self._requests[:num] += np.bincount(series, minlength=num)
        answered = np.array([key.status < 400 for key in self._keys])[series]
        rows, answerers = rows[answered], series[answered]
        self._rows_answered[:num] += _sums(answerers, rows[:, 1], num)
        for part, bounds in enumerate(self._bounds_ns):
            is_known = rows[:, 2 + part] >= 0.0
            series = answerers[is_known]
            spent = np.rint(rows[is_known, 2 + part] * 1e9).astype(np.int64)
            width = len(bounds) + 1
            cells = series * width + np.searchsorted(bounds, spent, side="left")
            counted = np.bincount(cells, minlength=num * width).reshape(num, width)
            self._buckets[part][:num] += counted
            self._sums[part, :num] += _sums(series, spent, num)

    def _series(self) -> Iterator[Series]:
        # Of a series that begins with the first failures Prometheus sees no increase.
        for names in dict.fromkeys((key.version, key.arm) for key in self._keys):
            for outcome in _STATUS_OF:
                yield Series(catalogue.REQUESTS.name, (self._model, *names, outcome), 0)
        for index, (version, arm, status) in enumerate(self._keys):
            labels = (self._model, version, arm)
            count = int(self._requests[index])
            yield Series(catalogue.REQUESTS.name, (*labels, outcome_of(status)), count)
            if status >= 400:
                yield Series(catalogue.REQUEST_ERRORS.name, (*labels, kind_of(status)), count)
                continue
            yield Series(catalogue.REQUEST_ROWS.name, labels, int(self._rows_answered[index]))
            for part, metric in enumerate(_PARTS):
                buckets = self._buckets[part][index]
                if buckets.any():
                    value = int(self._sums[part, index])
                    yield Series(metric.name, labels, value, tuple(buckets.tolist()))


def _integers(metric: Metric) -> NDArray[np.int64]:
    return np.array([round(bound / metric.resolution) for bound in metric.bounds], dtype=np.int64)


def _sums(series: NDArray[np.int64], values: NDArray[Any], num: int) -> NDArray[np.int64]:
    """The sum of `values` by series; exact, since no fold adds up to 2**53."""
    return np.bincount(series, weights=values, minlength=num).astype(np.int64)
