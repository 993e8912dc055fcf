"""Who is told of a replica's answers: metrics, monitor, request log, spans."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

from raymlops.serve.exchange import Record
from raymlops.serve.replica.spec import ReplicaSpec
from raymlops.serve.tap.outbox import Sink
from raymlops.serve.tap.recorder import Recorder
from raymlops.serve.witnesses.base import Witnesses
from raymlops.serve.witnesses.metrics import Metrics, Outlet, Reader
from raymlops.serve.witnesses.request_log import RequestLog
from raymlops.serve.witnesses.spans import Spans, otlp_exporter
from raymlops.serve.witnesses.statistics import Statistics

_logger = logging.getLogger(__name__)

_FLUSH_TIMEOUT_S = 5.0


class Audience:
    """Those whom `spec` asks for; the monitor behind `sink`, where there is one; who gathers
    metrics behind `outlet`.

    `loops` run while it listens; it can `leave` once the last answer is given.
    """

    def __init__(
        self, spec: ReplicaSpec, replica: str, *, sink: Sink | None, outlet: Outlet | None
    ) -> None:
        self._model = spec.model
        self._metrics = Metrics(spec.model, replica, outlet)
        self._recorder: Recorder | None = None
        if sink is not None:
            self._recorder = Recorder(
                model=spec.model,
                replica=replica,
                sink=sink,
                on_drop=self._metrics.count_dropped_rows,
                slice_by=spec.slice_by,
            )
        self._log: RequestLog | None = None
        if spec.log.enabled:
            self._log = RequestLog(spec.model, replica, spec.log, Path(spec.log_folder))
            self._metrics.watch(self._log.series)
        self._spans: Spans | None = None
        if spec.traces_to is not None:
            self._spans = Spans(spec.model, otlp_exporter(spec.traces_to))
        self.statistics = Statistics(self._tell)
        wanted = (self.statistics, self._metrics, self._log, self._spans, self._recorder)
        self._witnesses = Witnesses([each.note for each in wanted if each is not None])
        self.note: Record = self._witnesses.note
        """Tells them soon, of an exchange and of others together."""

    def watch(self, read: Reader) -> None:
        """Has the metrics hold what `read` returns, too."""
        self._metrics.watch(read)

    def loops(self) -> dict[str, Coroutine[Any, Any, None]]:
        """By name, what has to run from now on."""
        if self._log is not None:
            self._log.start()
        loops = {"metrics": self._metrics.run()}
        if self._recorder is not None:
            loops["recorder"] = self._recorder.run()
        return loops

    async def leave(self, loops: dict[str, asyncio.Task[None]]) -> None:
        """Tells everybody what is untold, and ends the loops, which are taken out of `loops`."""
        self._witnesses.tell()
        loops.pop("metrics").cancel()
        if self._recorder is not None:
            self._recorder.close()
            await self._finish(loops.pop("recorder"), self._recorder)
        if self._log is not None:
            await asyncio.to_thread(self._log.close)
        if self._spans is not None:
            await asyncio.to_thread(self._spans.close)
        await self._metrics.send()

    def _tell(self) -> None:
        self._witnesses.tell()

    async def _finish(self, loop: asyncio.Task[None], recorder: Recorder) -> None:
        _, unfinished = await asyncio.wait({loop}, timeout=_FLUSH_TIMEOUT_S)
        if unfinished:
            loop.cancel()
            _logger.warning(
                "the monitor was away at shutdown: %d rows and %d messages of %s are lost",
                recorder.pending_rows,
                recorder.pending_messages,
                self._model,
            )
