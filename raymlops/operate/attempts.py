"""Attempts at a challenger: what failed for a reason that may pass is tried again, not for ever.

    trigger ─▶ attempt 1 ── fails ── 15 min ─▶ attempt 2 ── fails ── 1 h ─▶ ... ─▶ gate: refused

Every end and every beginning but the first is a decision: an operator that was killed by what it
trained is followed by one that knows how often that was tried.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from raymlops.errors import (
    ClusterError,
    DataError,
    IntegrityError,
    LostWorkerError,
    NoRoomError,
    OutOfMemoryError,
    PlanError,
    StorageError,
)
from raymlops.ledger import Decision
from raymlops.ledger.patience import is_away

_WAITS = tuple(timedelta(minutes=15) * 4**failed for failed in range(4))
"""After each failed attempt; together most of a day, in which a person will have looked."""

# What workers or nodes lack, what lies in a file that somebody just writes. A plan that fits
# nowhere may be one of a cluster that lacks a machine, and is refused before anything starts.
_MAY_PASS = (
    ClusterError,
    DataError,
    LostWorkerError,
    NoRoomError,
    OutOfMemoryError,
    PlanError,
    StorageError,
)


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """The newest for a `trigger` that no gate has answered, counted from 1; `again_at` is when the
    next is due, in event time, where this one has failed."""

    trigger: Decision
    number: int = 1
    again_at: datetime | None = None

    def is_over(self, now: datetime) -> bool:
        """Whether it has failed, and the next is due: also where that was to be later than any
        wait, by a clock that was set back since."""
        again_at = self.again_at
        return again_at is not None and not timedelta(0) < again_at - now <= _WAITS[-1]


def newest_attempt(decisions: Sequence[Decision]) -> Attempt | None:
    """The one that is under way or waited for, by all `decisions` of a model's operators."""
    told: Mapping[str, Any] = {}
    for decision in reversed(decisions):
        match decision.kind, decision.outcome:
            case "gate", _:
                return None
            case "trigger", "retrain":
                again_at = told.get("again_at")
                return Attempt(
                    trigger=decision,
                    number=told.get("attempt", 1),
                    again_at=None if again_at is None else datetime.fromisoformat(again_at),
                )
            case "training", _:
                told = told or decision.evidence
    return None


def told_of(number: int, again_at: datetime | None = None) -> dict[str, Any]:
    """The evidence of a decision of kind "training": that attempt `number` begins or, where there
    is a time for the next, that it has failed."""
    return {"attempt": number} | ({} if again_at is None else {"again_at": again_at.isoformat()})


def wait_after(number: int) -> timedelta | None:
    """How long after the failure of attempt `number` the next begins; None after the last."""
    return _WAITS[number - 1] if number <= len(_WAITS) else None


def may_pass(error: BaseException) -> bool:
    """Whether a training that ended with `error` may succeed when nothing but time has passed."""
    return (isinstance(error, _MAY_PASS) and not isinstance(error, IntegrityError)) or is_away(
        error
    )
