"""Runs, and what they were given and gave."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

RunStatus = Literal["running", "finished", "failed", "interrupted", "lost"]


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

    def __str__(self) -> str:
        machine, *_ = self.host.split()
        return f"process {self.pid} of {machine}"


@dataclass(frozen=True, kw_only=True)
class Run:
    """`status` is "interrupted" when somebody ended it, by Ctrl-C or SIGTERM, and "lost" when the
    process that owns a running run has died, as of this reading."""

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
