"""The tap: what was answered becomes counts for the monitor, off the path of requests.

    request --> ring --(every 0.25 s or 1024 rows)--> bins --> message n --> acknowledged --> n + 1
                 `-- meanwhile new requests wait in the ring, the oldest fall out when it is full

A message is sent again until it is acknowledged, and the next one exists only after that. So the
monitor sees them in order, without gaps, and recognises repeated ones by their number.
"""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict, deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from datetime import UTC, date, datetime
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from raymlops.data import Columns, Counts, num_rows
from raymlops.errors import ClusterError
from raymlops.ledger import Pane, Prediction
from raymlops.models import PROBABILITY
from raymlops.serve.arms import LoadedVersion
from raymlops.serve.exchange import Exchange
from raymlops.serve.latency import NUM_BUCKETS, bucket
from raymlops.serve.tap import TapSummary

_logger = logging.getLogger(__name__)

_PERIOD_S = 0.25
_FLUSH_ROWS = 1024
_RING_ROWS = 65536
# The ledger looks a message's requests up in one query, which SQLite limits to 32,766 variables.
_MESSAGE_REQUESTS = 4096
_RETRY_S = 0.5

Sink = Callable[[TapSummary], Awaitable[None]]
"""Returns when the monitor has the message for good; raises ClusterError when that is unknown."""


class Sample(NamedTuple):
    """What the monitor gets to know of one exchange; `scores` is None where it failed."""

    request_id: str
    event_time: datetime
    version: LoadedVersion
    arm: str
    at: datetime
    columns: Columns
    scores: NDArray[np.float32] | None
    latency_s: float

    @property
    def size(self) -> int:
        return num_rows(self.columns)


class Recorder:
    """A bounded ring of samples, and the loop that empties it into `sink`.

    `on_drop` is told how many rows fell out of the ring.
    """

    def __init__(
        self,
        *,
        model: str,
        replica: str,
        sink: Sink,
        on_drop: Callable[[int], None],
        ring_rows: int = _RING_ROWS,
    ) -> None:
        self._model = model
        self._replica = replica
        self._sink = sink
        self._on_drop = on_drop
        self._ring_rows = ring_rows
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
        answered = exchange.outputs if exchange.outcome == "ok" else None
        scores = None if answered is None else answered[PROBABILITY]
        sample = Sample(
            request.id,
            request.event_time,
            version,
            exchange.arm,
            exchange.at,
            columns,
            scores,
            exchange.latency_s,
        )
        self._ring.append(sample)
        self._rows += sample.size
        while self._rows > self._ring_rows:
            self._dropped_rows += self._pop().size
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
        self._rows -= sample.size
        return sample

    async def _deliver(self, samples: list[Sample]) -> None:
        summary = await asyncio.to_thread(
            summarise, samples, model=self._model, replica=self._replica, sequence=self._sequence
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


def summarise(samples: Sequence[Sample], *, model: str, replica: str, sequence: int) -> TapSummary:
    """The counts of each version, arm and day of event time, and the predictions themselves."""
    groups: dict[tuple[str, str, date], list[Sample]] = defaultdict(list)
    for sample in samples:
        day = sample.event_time.astimezone(UTC).date()
        groups[sample.version.version, sample.arm, day].append(sample)
    return TapSummary(
        model=model,
        replica=replica,
        sequence=sequence,
        panes=tuple(_pane(model, day, group) for (_, _, day), group in groups.items()),
        predictions=tuple(_predictions(model, replica, samples)),
    )


def _pane(model: str, day: date, samples: list[Sample]) -> Pane:
    version, arm = samples[0].version, samples[0].arm
    answered = [sample for sample in samples if sample.scores is not None]
    latency = [0] * NUM_BUCKETS
    for sample in answered:
        latency[bucket(sample.latency_s)] += 1
    return Pane(
        model=model,
        version=version.version,
        arm=arm,
        day=day,
        num_rows=sum(sample.size for sample in answered),
        num_failed=len(samples) - len(answered),
        cells=_count(version, answered),
        latency=tuple(latency),
    )


def _count(version: LoadedVersion, answered: list[Sample]) -> Counts:
    profile = version.bundle.profile
    if not answered:
        return np.zeros(profile.num_cells, dtype=np.int64)
    names = answered[0].columns
    columns = {
        name: np.concatenate([sample.columns[name] for sample in answered]) for name in names
    }
    scores = [sample.scores for sample in answered if sample.scores is not None]
    return profile.count(columns, np.concatenate(scores))


def _predictions(model: str, replica: str, samples: Iterable[Sample]) -> Iterable[Prediction]:
    for sample in samples:
        if sample.scores is not None:
            yield Prediction(
                request_id=sample.request_id,
                model=model,
                version=sample.version.version,
                arm=sample.arm,
                scores=sample.scores.astype("<f4").tobytes(),
                num_rows=sample.size,
                served_at=sample.at,
                event_time=sample.event_time,
                replica=replica,
            )
