"""Suggestions as Ray Tune asks for them."""

from __future__ import annotations

from typing import Any

from ray.tune.search import Searcher

from raymlops.tune.suggestions import Suggestions
from raymlops.tune.trials import METRIC, NUMBER


class SuggestionSearcher(Searcher):
    """Gives each trial of Ray Tune its number and parameters, and tells of its end."""

    def __init__(self, suggestions: Suggestions) -> None:
        super().__init__(metric=METRIC, mode="min")
        self._suggestions = suggestions
        self._numbers: dict[str, int] = {}

    def suggest(self, trial_id: str) -> dict[str, Any]:
        number, parameters = self._suggestions.next()
        self._numbers[trial_id] = number
        return {NUMBER: number, **parameters}

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        loss = None if error or result is None else result[METRIC]
        self._suggestions.end(self._numbers.pop(trial_id), loss)

    def save(self, checkpoint_path: str) -> None:
        """Writes nothing: a search goes on from the ledger, which knows what was tried."""
