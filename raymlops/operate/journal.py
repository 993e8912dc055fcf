"""What operators of a model decided, in the ledger under their name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from raymlops.ledger import Decision, Ledger

WHO = "raymlops operator"


class Journal:
    """The decisions about `model`, its operators' and those of others.

    They are asked for several times a look, so each is read once: from then on, with the newest
    that is known, those that came after it.
    """

    def __init__(self, ledger: Ledger, model: str) -> None:
        self._decisions = ledger.decisions
        self._model = model
        self._known: list[Decision] = []

    def all(self, kind: str | None = None) -> Sequence[Decision]:
        """Of one kind, where that is named; oldest first."""
        self._catch_up()
        return [each for each in self._known if kind is None or each.kind == kind]

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

    def _catch_up(self) -> None:
        """All are read anew where the newest that is known is not in the ledger any more: by its
        digest, which covers those before it, the ledger is another, such as one put back."""
        if self._known:
            last = self._known[-1]
            newer = self._decisions.list(model=self._model, since=last.id)
            if newer and newer[0].digest == last.digest:
                self._known += newer[1:]
                return
        self._known = list(self._decisions.list(model=self._model))


def is_own(decision: Decision) -> bool:
    """Whether an operator made it: a challenger that a person's job found to be better waits for
    that person."""
    return decision.who == WHO
