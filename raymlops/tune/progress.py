"""How a search tells of itself while it runs: in the ledger, and of what failed in a line."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from ray.tune import Callback

from raymlops.ledger import Ledger
from raymlops.ledger.patience import patiently
from raymlops.storage.files import redacted
from raymlops.tune.trials import METRIC, NUMBER, Trial

_DEAD = "The actor died unexpectedly"

_logger = logging.getLogger(__name__)


class TrialsTold(Callback):
    """Ray Tune's callback: each trial that ends is a step of the search's run, with the lowest loss
    so far, so a search is followed like a training. Steps are counted on from what is `known`.

    `place` says where a traceback of that name is once the search has ended, `causes` why trials
    failed.
    """

    def __init__(
        self,
        ledger: Ledger,
        run_id: str,
        *,
        place: Callable[[str], str],
        known: Iterable[Trial] = (),
    ) -> None:
        ended = [trial for trial in known if trial.has_ended]
        losses = [trial.tried.loss for trial in ended if trial.tried.loss is not None]
        self._ledger, self._run_id, self._place = ledger, run_id, place
        self._waits = f"search {run_id} goes on"
        self._num_ended = len(ended)
        self._best = min(losses, default=None)
        self.causes = [_cause(trial.run.error) for trial in ended if trial.run.error is not None]

    def __getstate__(self) -> dict[str, Any]:
        """Nothing: Ray Tune keeps a copy to go on with, and a search goes on from the ledger."""
        return {}

    def begin(self, num_trials: int) -> None:
        self._ledger.runs.log(self._run_id, {"num_steps": num_trials}, step=0)
        if self._num_ended:
            self._tell()

    def on_trial_complete(self, iteration: int, trials: Any, trial: Any, **_: Any) -> None:
        value = trial.last_result[METRIC]
        self._best = value if self._best is None else min(self._best, value)
        self._end()

    def on_trial_error(self, iteration: int, trials: Any, trial: Any, **_: Any) -> None:
        number = trial.config[NUMBER]
        error_of = partial(self._error_of, number, Path(trial.error_file))
        cause = _cause(patiently(error_of, waits=self._waits))
        self.causes.append(cause)
        _logger.warning(
            "trial %d (%s) failed: %s; its traceback will be in %s",
            number,
            _shown(trial.config),
            cause,
            redacted(self._place(f"{trial.custom_dirname}/{Path(trial.error_file).name}")),
        )
        self._end()

    def _error_of(self, number: int, error_file: Path) -> str | None:
        """What the trial's run says; of a worker that was killed, and could say nothing, that."""
        error = _first_line(error_file)
        if error.startswith(_DEAD):
            error = "its worker died: it was killed, or the machine had no memory left"
        runs = self._ledger.runs.list(
            parent_id=self._run_id, where=f"params.{NUMBER} = {number}", limit=1
        )
        if runs and runs[0].ended_at is not None:
            return runs[0].error
        if runs:
            self._ledger.runs.fail(runs[0].id, f"TrainingError: {error}")
        return error

    def _end(self) -> None:
        self._num_ended += 1
        self._tell()

    def _tell(self) -> None:
        # Under a name of its own: the best of all runs is a trial, and not the search.
        values = {} if self._best is None else {f"best_{METRIC}": self._best}
        told = {"num_ended": self._num_ended, **values}
        log = partial(self._ledger.runs.log, self._run_id, told, step=self._num_ended)
        patiently(log, waits=self._waits)


def _cause(error: str | None) -> str:
    """What a run says of its failure, in a line: of ours, the kind says nothing more."""
    return (error or "").removeprefix("TrainingError: ").split("\n", 1)[0]


def _first_line(error_file: Path) -> str:
    """What failed, below the line in which Ray Tune says that something did."""
    return error_file.read_text().splitlines()[1]


def _shown(config: Mapping[str, Any]) -> str:
    return ", ".join(
        f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}"
        for name, value in config.items()
        if name != NUMBER
    )
