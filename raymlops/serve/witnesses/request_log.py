"""The request log of a replica: what became of a request, as a document."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from raymlops.config import HIDDEN
from raymlops.serve.exchange import Exchange, Run
from raymlops.serve.web import unicode_of
from raymlops.telemetry import Series, catalogue
from raymlops.telemetry.logs import LineWriter, LogPolicy, Reason, chosen, shown_inputs


class RequestLog:
    """Writes those exchanges of `model` that `policy` says to `folder`/REPLICA.jsonl."""

    def __init__(self, model: str, replica: str, policy: LogPolicy, folder: Path) -> None:
        self._model = model
        self._replica = replica
        self._policy = policy
        self._writer = LineWriter(
            folder / f"{replica}.jsonl",
            max_file_bytes=policy.max_file_mb << 20,
            num_files=policy.num_files,
            max_waiting=policy.max_waiting,
            family=model,
        )
        self._num_left_out = 0

    def start(self) -> None:
        self._writer.start()

    def close(self) -> None:
        """Returns once everything is on disk."""
        self._writer.close()

    def note(self, runs: Sequence[Run]) -> None:
        """Logs exchanges, or leaves them out; never blocks."""
        for run in runs:
            wanted = chosen(self._policy, run.status, run.exchanges)
            self._num_left_out += len(run.exchanges) - len(wanted)
            for exchange, reason in wanted:
                self._writer.put(self._document(exchange, reason))

    def series(self) -> tuple[Series, ...]:
        """How many lines were written, left out and dropped."""
        counts = {
            "written": self._writer.num_written,
            "left_out": self._num_left_out,
            "dropped": self._writer.num_dropped,
        }
        name = catalogue.LOG_LINES.name
        return tuple(Series(name, (self._model, result), n) for result, n in counts.items())

    def _document(self, exchange: Exchange, reason: Reason) -> dict[str, Any]:
        columns, trace = exchange.inputs or {}, exchange.trace
        document = {
            "at": datetime.fromtimestamp(exchange.at, UTC),
            "kind": "request",
            "reason": reason,
            "request_id": exchange.id,
            "trace_id": None if trace is None else trace.trace_id,
            "span_id": None if trace is None else trace.span_id,
            "model": self._model,
            "version": None if exchange.version is None else exchange.version.version,
            "arm": exchange.arm or None,
            "replica": self._replica,
            "outcome": exchange.outcome,
            "status": exchange.status,
            "error": self._error(exchange),
            "duration_s": round(exchange.latency_s, 7),
            "queue_s": _known(exchange.queue_s),
            "batch_s": _known(exchange.batch_s),
            "engine_s": _known(exchange.engine_s),
            "shapes": {name: values.shape for name, values in columns.items()},
        }
        if self._policy.inputs:
            document["inputs"] = shown_inputs(
                columns, hidden=self._policy.hidden, max_rows=self._policy.max_rows
            )
        return document

    def _error(self, exchange: Exchange) -> str | None:
        """What the client was told, without a value that is not for the log."""
        fault = exchange.fault
        if fault is None or self._policy.shows(fault.field):
            return exchange.error
        return unicode_of(str(fault.hiding(HIDDEN)))


def _known(seconds: float) -> float | None:
    return None if seconds < 0 else round(seconds, 7)
