"""What operators of a model decided, in the ledger under their name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from raymlops.ledger import Decision, Ledger

WHO = "raymlops operator"


class Journal:
    """The decisions about `model`, its operators' and those of others."""

    def __init__(self, ledger: Ledger, model: str) -> None:
        self._decisions = ledger.decisions
        self._model = model

    def all(self, kind: str | None = None) -> Sequence[Decision]:
        """Of one kind, where that is named; oldest first."""
        return self._decisions.list(model=self._model, kind=kind)

    def own(self) -> list[Decision]:
        """Those of operators."""
        return [decision for decision in self.all() if is_own(decision)]

    def add(
        self,
        kind: str,
        outcome: str,
        why: str,
        evidence: Mapping[str, Any],
        now: datetime,
        *,
        window_end: datetime | None = None,
    ) -> Decision:
        """Writes one down; with `window_end` the window that ends there counts as considered."""
        return self._decisions.add(
            model=self._model,
            kind=kind,
            outcome=outcome,
            who=WHO,
            why=why,
            evidence=evidence,
            event_time=now,
            window_end=window_end,
        )


def is_own(decision: Decision) -> bool:
    """Whether an operator made it: a challenger that a person's job found to be better waits for
    that person."""
    return decision.who == WHO
