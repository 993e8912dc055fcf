"""What a replica counts of itself: integers in its memory, sent on as a whole once a second."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence

from raymlops.errors import ClusterError
from raymlops.serve.exchange import Run
from raymlops.telemetry import NONE, RequestMeter, Series, Snapshot, catalogue

_PERIOD_S = 1.0

_logger = logging.getLogger(__name__)

Outlet = Callable[[Snapshot], Awaitable[None]]
"""Takes a snapshot to whoever gathers them; raises ClusterError when that is away."""

Reader = Callable[[], tuple[Series, ...]]
"""What somebody else has counted; asked once a second, so it costs no request anything."""


class Metrics:
    """Counts exchanges of `model`, and hands all it has counted to `outlet`.

    A snapshot that does not arrive is not sent again: the next one holds everything.
    """

    def __init__(self, model: str, source: str, outlet: Outlet | None) -> None:
        self._model = model
        self._source = source
        self._outlet = outlet
        self._meter = RequestMeter(model)
        self._readers: list[Reader] = []
        self._dropped_rows = 0
        self._sequence = 0
        self._away = False

    def note(self, runs: Sequence[Run]) -> None:
        for version, arm, status, kin in runs:
            name = NONE if version is None else version.version
            self._meter.note_all(name, arm or NONE, status, kin)

    def count_dropped_rows(self, number: int) -> None:
        self._dropped_rows += number

    def watch(self, read: Reader) -> None:
        """Has every snapshot hold what `read` returns, too."""
        self._readers.append(read)

    async def run(self) -> None:
        """Never returns; cancel it, and `send` what is left."""
        while True:
            await asyncio.sleep(_PERIOD_S)
            await self.send()

    async def send(self) -> None:
        """Sends one snapshot; one that is lost is only logged."""
        if self._outlet is None:
            return
        snapshot = Snapshot(source=self._source, sequence=self._sequence, series=self.series())
        self._sequence += 1
        try:
            await self._outlet(snapshot)
        except ClusterError as error:
            if not self._away:
                _logger.warning("nobody takes the metrics of %s: %s", self._model, error)
            self._away = True
        else:
            self._away = False

    def series(self) -> tuple[Series, ...]:
        """Everything counted so far."""
        dropped = Series(catalogue.TAP_DROPPED_ROWS.name, (self._model,), self._dropped_rows)
        others = (series for read in self._readers for series in read())
        return (*self._meter.series(), dropped, *others)
