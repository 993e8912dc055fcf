"""The tap: what was answered becomes counts for the monitor, off the path of requests.

    request --> ring --(every 0.25 s or 1024 rows)--> bins --> message n --> acknowledged --> n + 1
                 `-- meanwhile new requests wait in the ring, the oldest fall out when it is full

A message is sent again until it is acknowledged, and the next one exists only after that. So the
monitor sees them in order, without gaps, and recognises repeated ones by their number.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections import defaultdict, deque
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, date, datetime
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from raymlops.data import Column, Columns, Counts
from raymlops.data.slices import UNKNOWN, cells_of
from raymlops.errors import ClusterError
from raymlops.ledger import Pane
from raymlops.models import PROBABILITY
from raymlops.serve.arms import LoadedVersion
from raymlops.serve.batching import Outputs
from raymlops.serve.exchange import Exchange
from raymlops.serve.latency import BOUNDS_S, NUM_BUCKETS
from raymlops.serve.tap import PackedPredictions, TapSummary

_logger = logging.getLogger(__name__)

_PERIOD_S = 0.25
_FLUSH_ROWS = 1024
_RING_ROWS = 65536
# A message stays well below what Ray would rather put into its object store.
_MESSAGE_REQUESTS = 4096
_RETRY_S = 0.5

Sink = Callable[[TapSummary], Awaitable[None]]
"""Returns when the monitor has the message for good; raises ClusterError when that is unknown."""


class Sample(NamedTuple):
    """What the monitor gets to know of one exchange; `outputs` is None where it failed."""

    request_id: str
    event_time: datetime
    version: LoadedVersion
    arm: str
    at: datetime
    columns: Columns
    outputs: Outputs | None
    latency_s: float
    num_rows: int


_Key = tuple[str, str, date]


class Recorder:
    """A bounded ring of samples, and the loop that empties it into `sink`.

    `on_drop` is told how many rows fell out of the ring. Of each row it is kept where it lies in
    the features `slice_by`.
    """

    def __init__(
        self,
        *,
        model: str,
        replica: str,
        sink: Sink,
        on_drop: Callable[[int], None],
        ring_rows: int = _RING_ROWS,
        slice_by: tuple[str, ...] = (),
    ) -> None:
        self._model = model
        self._replica = replica
        self._sink = sink
        self._on_drop = on_drop
        self._ring_rows = ring_rows
        self._slice_by = slice_by
        self._ring: deque[Sample] = deque()
        self._rows = 0
        self._dropped_rows = 0
        self._sequence = 0
        self._due = asyncio.Event()
        self._closing = False

    def note(self, exchange: Exchange) -> None:
        """Remembers an exchange that a version answered or failed to answer."""
        request, version, columns = exchange.request, exchange.version, exchange.columns
        if request is None or version is None or columns is None or exchange.outcome == "refused":
            return
        num_rows = exchange.num_rows
        # One tuple is all a request pays for; calling Sample would cost it three times that.
        sample = tuple.__new__(
            Sample,
            (
                request.id,
                request.event_time,
                version,
                exchange.arm,
                exchange.at,
                columns,
                exchange.outputs if exchange.status < 400 else None,
                exchange.latency_s,
                num_rows,
            ),
        )
        self._ring.append(sample)
        self._rows += num_rows
        while self._rows > self._ring_rows:
            self._dropped_rows += self._pop().num_rows
        if self._rows >= _FLUSH_ROWS:
            self._due.set()

    async def run(self) -> None:
        """Returns when `close` was called and the ring is empty."""
        while self._ring or not self._closing:
            await self._wait()
            self._report_drops()
            if samples := self._take():
                await self._deliver(samples)

    def close(self) -> None:
        """Makes `run` send what is left, at once, and return."""
        self._closing = True
        self._due.set()

    @property
    def pending_rows(self) -> int:
        """Rows that no message holds yet."""
        return self._rows

    async def _wait(self) -> None:
        try:
            async with asyncio.timeout(_PERIOD_S):
                await self._due.wait()
        except TimeoutError:
            pass

    def _take(self) -> list[Sample]:
        length = min(len(self._ring), _MESSAGE_REQUESTS)
        samples = [self._pop() for _ in range(length)]
        if self._rows < _FLUSH_ROWS and not self._closing:
            self._due.clear()
        return samples

    def _pop(self) -> Sample:
        sample = self._ring.popleft()
        self._rows -= sample.num_rows
        return sample

    async def _deliver(self, samples: list[Sample]) -> None:
        summary = await asyncio.to_thread(
            summarise,
            samples,
            model=self._model,
            replica=self._replica,
            sequence=self._sequence,
            slice_by=self._slice_by,
        )
        away = False
        while True:
            try:
                await self._sink(summary)
            except ClusterError as error:
                if not away:
                    _logger.warning("the monitor is away, the tap waits for it: %s", error)
                away = True
                self._report_drops()
                await asyncio.sleep(_RETRY_S)
            else:
                self._sequence += 1
                return

    def _report_drops(self) -> None:
        if self._dropped_rows:
            _logger.warning(
                "%d rows of %s never reached the monitor: the ring holds %d",
                self._dropped_rows,
                self._model,
                self._ring_rows,
            )
            self._on_drop(self._dropped_rows)
            self._dropped_rows = 0


def summarise(
    samples: Sequence[Sample],
    *,
    model: str,
    replica: str,
    sequence: int,
    slice_by: tuple[str, ...] = (),
) -> TapSummary:
    """The counts of each version, arm and day of event time, and the predictions themselves."""
    groups: dict[_Key, list[Sample]] = defaultdict(list)
    for sample in samples:
        groups[sample.version.version, sample.arm, _day(sample.event_time)].append(sample)
    return TapSummary(
        model=model,
        replica=replica,
        sequence=sequence,
        panes=tuple(_pane(model, key, group) for key, group in groups.items()),
        predictions=_pack(
            model, replica, [each for each in samples if each.outputs is not None], slice_by
        ),
    )


def _day(time: datetime) -> date:
    return (time if time.tzinfo is UTC else time.astimezone(UTC)).date()


def _pane(model: str, key: _Key, samples: list[Sample]) -> Pane:
    version, arm, day = key
    answered = [sample for sample in samples if sample.outputs is not None]
    latencies = np.array([sample.latency_s for sample in answered])
    buckets = np.searchsorted(BOUNDS_S, latencies, side="left")
    return Pane(
        model=model,
        version=version,
        arm=arm,
        day=day,
        num_rows=sum(sample.num_rows for sample in answered),
        num_failed=len(samples) - len(answered),
        cells=_count(samples[0].version, answered),
        latency=tuple(np.bincount(buckets, minlength=NUM_BUCKETS).tolist()),
    )


def _count(version: LoadedVersion, answered: list[Sample]) -> Counts:
    profile = version.bundle.profile
    if not answered:
        return np.zeros(profile.num_cells, dtype=np.int64)
    columns = {name: _column(name, answered) for name in answered[0].columns}
    return profile.count(columns, _scores(answered))


def _column(name: str, answered: Sequence[Sample]) -> Column:
    parts = [sample.columns[name] for sample in answered]
    if parts[0].dtype == np.float64:  # as bytes they are joined in less time than as arrays
        joined = b"".join([part.tobytes() for part in parts])
        return np.frombuffer(joined)
    return np.concatenate(parts, dtype=object)


def _scores(answered: Sequence[Sample]) -> NDArray[np.float32]:
    scores = [each.outputs[PROBABILITY] for each in answered if each.outputs is not None]
    return np.concatenate(scores) if scores else np.empty(0, dtype=np.float32)


def _pack(
    model: str, replica: str, answered: Sequence[Sample], slice_by: tuple[str, ...]
) -> PackedPredictions:
    arms = {(sample.version.version, sample.arm): None for sample in answered}
    numbers = {arm: number for number, arm in enumerate(arms)}
    return PackedPredictions(
        model=model,
        replica=replica,
        request_ids=tuple([sample.request_id for sample in answered]),
        arms=tuple(arms),
        arm_of=np.array(
            [numbers[each.version.version, each.arm] for each in answered], dtype=np.uint16
        ),
        num_rows=np.array([sample.num_rows for sample in answered], dtype=np.int32),
        scores=_scores(answered),
        served_at=np.array([sample.at.timestamp() for sample in answered]),
        event_time=np.array([sample.event_time.timestamp() for sample in answered]),
        slices=_slices(answered, slice_by) if slice_by and answered else None,
    )


def _slices(answered: Sequence[Sample], slice_by: tuple[str, ...]) -> NDArray[np.uint16]:
    """[features to slice by, rows]; neighbours of one version are looked up together."""
    parts = []
    for version, group in itertools.groupby(answered, key=lambda sample: sample.version):
        mine = list(group)
        columns = {name: _column(name, mine) for name in slice_by if name in mine[0].columns}
        if columns:
            parts.append(cells_of(version.bundle.profile, slice_by, columns))
        else:
            num_rows = sum(sample.num_rows for sample in mine)
            parts.append(np.full((len(slice_by), num_rows), UNKNOWN, dtype=np.uint16))
    return np.concatenate(parts, axis=1)
