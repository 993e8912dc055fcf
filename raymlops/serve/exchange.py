"""One request to infer, and what became of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Literal, Protocol

from raymlops.data import Columns, num_rows
from raymlops.serve.arms import LoadedVersion
from raymlops.serve.batching import Outputs, Times
from raymlops.telemetry import trace
from raymlops.telemetry.trace import Trace

Outcome = Literal["ok", "refused", "failed"]


class Asked(Protocol):
    """What is remembered of a request, in whatever protocol it was asked."""

    @property
    def id(self) -> str: ...

    @property
    def event_time(self) -> datetime: ...


@dataclass(slots=True, kw_only=True)
class Exchange:
    """Filled in as the request proceeds: what it never came to stays None."""

    at: datetime = field(default_factory=lambda: datetime.now(UTC))
    request: Asked | None = None
    arm: str = ""
    version: LoadedVersion | None = None
    columns: Columns | None = None
    outputs: Outputs | None = None
    status: int = 0
    error: str | None = None
    latency_s: float = 0.0
    times: Times = field(default_factory=Times)
    trace: Trace | None = field(default_factory=trace.current.get)

    @property
    def num_rows(self) -> int:
        """How many rows were asked about; 0 before that is known."""
        return 0 if self.columns is None else num_rows(self.columns)

    @property
    def outcome(self) -> Outcome:
        """Refused is the client's fault, failed the server's, overload included."""
        if self.status < 400:
            return "ok"
        return "refused" if self.status < 500 else "failed"


Record = Callable[[Exchange], None]
"""What is told of every exchange that was answered; it must not block."""
