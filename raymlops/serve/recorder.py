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

from raymlops.data import Columns, Counts, Profile
from raymlops.data.slices import cells_of
from raymlops.errors import ClusterError
from raymlops.ledger import PackedPredictions, Pane
from raymlops.serve.arms import LoadedVersion
from raymlops.serve.batching.outputs import concatenated
from raymlops.serve.exchange import Exchange
from raymlops.serve.latency import BOUNDS_S, NUM_BUCKETS
from raymlops.serve.tap import TapSummary

_logger = logging.getLogger(__name__)

_PERIOD_S = 0.25
_FLUSH_ROWS = 1024
_RING_ROWS = 65536
# A message stays well below what Ray would rather put into its object store.
_MESSAGE_REQUESTS = 4096
_RETRY_S = 0.5

Sink = Callable[[TapSummary], Awaitable[None]]
"""Returns when the monitor has the message for good; raises ClusterError when that is unknown."""


class _Told(NamedTuple):
    """An exchange that came to a version."""

    exchange: Exchange
    version: LoadedVersion
    event_time: datetime
    columns: Columns


_Key = tuple[str, str, date]


class Recorder:
    """A bounded ring of exchanges, and the loop that empties it into `sink`.

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
        self._ring: deque[Exchange] = deque()
        self._rows = 0
        self._dropped_rows = 0
        self._sequence = 0
        self._due = asyncio.Event()
        self._closing = False

    def note(self, exchanges: Sequence[Exchange]) -> None:
        """Remembers those that a version answered or failed to answer."""
        told = [
            each
            for each in exchanges
            if each.columns is not None and (each.status < 400 or each.status >= 500)
        ]
        self._ring.extend(told)
        self._rows += sum([each.num_rows for each in told])
        while self._rows > self._ring_rows:
            self._dropped_rows += self._pop().num_rows
        if self._rows >= _FLUSH_ROWS:
            self._due.set()

    async def run(self) -> None:
        """Returns when `close` was called and the ring is empty."""
        while self._ring or not self._closing:
            await self._wait()
            self._report_drops()
            if exchanges := self._take():
                await self._deliver(exchanges)

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

    def _take(self) -> list[Exchange]:
        length = min(len(self._ring), _MESSAGE_REQUESTS)
        taken = [self._pop() for _ in range(length)]
        if self._rows < _FLUSH_ROWS and not self._closing:
            self._due.clear()
        return taken

    def _pop(self) -> Exchange:
        oldest = self._ring.popleft()
        self._rows -= oldest.num_rows
        return oldest

    async def _deliver(self, exchanges: list[Exchange]) -> None:
        summary = await asyncio.to_thread(
            summarise,
            exchanges,
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
    exchanges: Sequence[Exchange],
    *,
    model: str,
    replica: str,
    sequence: int,
    slice_by: tuple[str, ...] = (),
) -> TapSummary:
    """The counts of each version, arm and day of event time, and the predictions themselves."""
    told = [
        _Told(each, each.version, each.event_time, each.columns)
        for each in exchanges
        if each.version is not None and each.event_time is not None and each.columns is not None
    ]
    groups: dict[_Key, list[_Told]] = defaultdict(list)
    for each in told:
        groups[each.version.version, each.exchange.arm, _day(each.event_time)].append(each)
    return TapSummary(
        model=model,
        replica=replica,
        sequence=sequence,
        panes=tuple(_pane(model, key, group) for key, group in groups.items()),
        predictions=_pack(model, replica, _answered(told), slice_by),
    )


def _answered(told: Sequence[_Told]) -> list[_Told]:
    return [each for each in told if each.exchange.status < 400]


def _day(time: datetime) -> date:
    return (time if time.tzinfo is UTC else time.astimezone(UTC)).date()


def _pane(model: str, key: _Key, told: list[_Told]) -> Pane:
    version, arm, day = key
    answered = _answered(told)
    latencies = np.array([each.exchange.latency_s for each in answered])
    buckets = np.searchsorted(BOUNDS_S, latencies, side="left")
    return Pane(
        model=model,
        version=version,
        arm=arm,
        day=day,
        num_rows=sum(each.exchange.num_rows for each in answered),
        num_failed=len(told) - len(answered),
        cells=_count(told[0].version.bundle.profile, answered),
        latency=tuple(np.bincount(buckets, minlength=NUM_BUCKETS).tolist()),
    )


def _count(profile: Profile, answered: Sequence[_Told]) -> Counts:
    if not answered:
        return np.zeros(profile.num_cells, dtype=np.int64)
    return profile.count(concatenated([each.columns for each in answered]), _scores(answered))


def _scores(answered: Sequence[_Told]) -> NDArray[np.float32]:
    scores = [
        outputs[each.version.bundle.postprocessing.score]
        for each in answered
        if (outputs := each.exchange.outputs) is not None
    ]
    return np.concatenate(scores) if scores else np.empty(0, dtype=np.float32)


def _pack(
    model: str, replica: str, answered: Sequence[_Told], slice_by: tuple[str, ...]
) -> PackedPredictions:
    arms = [(each.version.version, each.exchange.arm) for each in answered]
    numbers = {arm: number for number, arm in enumerate(dict.fromkeys(arms))}
    return PackedPredictions(
        model=model,
        replica=replica,
        request_ids=tuple([each.exchange.id for each in answered]),
        arms=tuple(numbers),
        arm_of=np.array([numbers[arm] for arm in arms], dtype=np.uint16),
        num_rows=np.array([each.exchange.num_rows for each in answered], dtype=np.int32),
        scores=_scores(answered),
        served_at=np.array([each.exchange.at.timestamp() for each in answered]),
        event_time=np.array([each.event_time.timestamp() for each in answered]),
        slices=_slices(answered, slice_by) if slice_by and answered else None,
    )


def _slices(answered: Sequence[_Told], slice_by: tuple[str, ...]) -> NDArray[np.uint16]:
    """[features to slice by, rows]; neighbours of one version are looked up together."""
    parts = []
    for version, group in itertools.groupby(answered, key=lambda each: each.version):
        columns = concatenated([each.columns for each in group])
        parts.append(cells_of(version.bundle.profile, slice_by, columns))
    return np.concatenate(parts, axis=1)
