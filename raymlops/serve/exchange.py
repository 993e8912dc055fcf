"""One request to infer, and what became of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Literal, NamedTuple

import msgspec

from raymlops.data import Columns
from raymlops.errors import SignatureError
from raymlops.serve.batching import Outputs, Times
from raymlops.serve.batching.shares import Share
from raymlops.serve.versions.loaded import LoadedVersion
from raymlops.telemetry import trace
from raymlops.telemetry.trace import Trace

Outcome = Literal["ok", "refused", "failed"]


class Exchange(Times, kw_only=True, eq=False):
    """Filled in as the request proceeds: what it never came to stays None, or empty.

    It came `at` so many seconds since 1970, `started` is the same by `time.perf_counter`, and
    `event_time` None where the request tells none.
    `error` is what the client was told, `fault` the column and value that it tells of, if any.
    `columns` are let go once they are part of a batch, in whose arrays `inputs` finds them.
    """

    at: float = msgspec.field(default_factory=time.time)
    started: float = 0.0
    id: str = ""
    event_time: datetime | None = None
    arm: str = ""
    version: LoadedVersion | None = None
    columns: Columns | None = None
    num_rows: int = 0
    outputs: Outputs | None = None
    status: int = 0
    error: str | None = None
    fault: SignatureError | None = None
    latency_s: float = 0.0
    trace: Trace | None = msgspec.field(default_factory=trace.current.get)

    @property
    def inputs(self) -> Columns | None:
        """What the model was asked with."""
        if self.columns is None and isinstance(self.outputs, Share):
            return self.outputs.columns
        return self.columns

    @property
    def outcome(self) -> Outcome:
        """Refused is the client's fault, failed the server's, overload included."""
        if self.status < 400:
            return "ok"
        return "refused" if self.status < 500 else "failed"


class Run(NamedTuple):
    """Exchanges in a row that `version` answered in one arm with one status; at least one."""

    version: LoadedVersion | None
    arm: str
    status: int
    exchanges: list[Exchange]


def runs_of(exchanges: Iterable[Exchange]) -> list[Run]:
    """All of them, in their order: of a batch nearly always one run."""
    runs: list[Run] = []
    version, arm, status = None, None, -1
    kin: list[Exchange] = []
    for exchange in exchanges:
        if exchange.version is not version or exchange.arm is not arm or exchange.status != status:
            version, arm, status, kin = exchange.version, exchange.arm, exchange.status, []
            runs.append(Run(version, arm, status, kin))
        kin.append(exchange)
    return runs


Record = Callable[[Exchange], None]
"""What is told of every exchange that was answered; it must not block."""
