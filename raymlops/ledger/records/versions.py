"""Model versions, and what was decided about them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from raymlops.ledger.version import Version

ReleaseStatus = Literal["running", "promoted", "rolled_back"]


@dataclass(frozen=True, kw_only=True)
class ModelVersion:
    """A registered bundle; `event_time` is how far its training data reached."""

    model: str
    version: Version
    bundle: str
    signature_digest: str
    run_id: str
    created_at: datetime
    event_time: datetime | None

    def __str__(self) -> str:
        return f"{self.model} {self.version}"


@dataclass(frozen=True, kw_only=True)
class Decision:
    """An act of the system or of a person, with its reason and the numbers behind it.

    `digest` covers all of it and `previous`, the digest of the decision before; see `audit`.
    """

    id: int
    model: str
    kind: str
    outcome: str
    who: str
    why: str
    evidence: Mapping[str, Any]
    at: datetime
    event_time: datetime | None
    previous: str
    digest: str

    @property
    def content(self) -> dict[str, Any]:
        """What the digest covers."""
        chained = ("id", "previous", "digest")
        return {key: value for key, value in vars(self).items() if key not in chained}


@dataclass(frozen=True, kw_only=True)
class AliasMove:
    id: int
    model: str
    alias: str
    version: Version
    decision_id: int
    at: datetime
    event_time: datetime | None


@dataclass(frozen=True, kw_only=True)
class Release:
    id: int
    model: str
    champion: Version
    challenger: Version
    strategy: Mapping[str, Any]
    status: ReleaseStatus
    state: Mapping[str, Any]
    started_at: datetime
    event_time: datetime | None
    ended_at: datetime | None
