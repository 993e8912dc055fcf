"""How a search tells of itself in the ledger while it runs."""

from __future__ import annotations

from typing import Any

from ray.tune import Callback

from raymlops.ledger import Ledger


class TrialsTold(Callback):
    """Ray Tune's callback: each trial that ends is a step of the search's run, with the lowest
    `metric` so far, so a search is followed like a training."""

    def __init__(self, ledger: Ledger, run_id: str, *, metric: str) -> None:
        self._ledger, self._run_id, self._metric = ledger, run_id, metric
        self._num_ended = 0
        self._best: float | None = None

    def __getstate__(self) -> dict[str, Any]:
        """Nothing: Ray Tune keeps a copy to go on with, and a search does not go on, it starts."""
        return {}

    def on_trial_complete(self, iteration: int, trials: Any, trial: Any, **_: Any) -> None:
        value = trial.last_result[self._metric]
        self._best = value if self._best is None else min(self._best, value)
        self._end()

    def on_trial_error(self, iteration: int, trials: Any, trial: Any, **_: Any) -> None:
        self._end()

    def _end(self) -> None:
        self._num_ended += 1
        # Under a name of its own: the best of all runs is a trial, and not the search.
        values = {} if self._best is None else {f"best_{self._metric}": self._best}
        self._ledger.runs.log(
            self._run_id, {"num_ended": self._num_ended, **values}, step=self._num_ended
        )
