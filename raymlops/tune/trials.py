"""What the ledger knows of a search: its trials, and the searches that it goes on with.

A search that is gone on with is the parent of the search that does so, whose trials have the
numbers that it left open. A trial that was cut off is run again under its number, as a run of its
own; of the runs of a number, one that finished counts, and else one that failed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from raymlops.errors import TrainingError
from raymlops.ledger import Ledger, Run
from raymlops.tune.suggestions import Outcome, Tried, parameters_in

METRIC = "validation_loss"
NUMBER = "trial"
"""The parameter of a trial's run that holds its number."""

_OUTCOMES: Mapping[str, Outcome] = {"finished": "finished", "failed": "failed"}
_PREFERRED: tuple[Outcome, ...] = ("finished", "failed", "cut off")


@dataclass(frozen=True, kw_only=True)
class Trial:
    """A trial by its number, and the run that counts for it."""

    tried: Tried
    run: Run

    @property
    def has_ended(self) -> bool:
        return self.tried.outcome != "cut off"


def trials_of(ledger: Ledger, search: Run) -> list[Trial]:
    """The trials of a search and its family, each once, by their numbers."""
    runs = [
        run
        for member in family_of(ledger, search)
        for run in ledger.runs.list(parent_id=member.id, kind="trial")
    ]
    last = ledger.runs.last_metrics_of([run.id for run in runs])
    found: dict[int, Trial] = {}
    for run in runs:
        trial = _trial(run, last.get(run.id, {}))
        known = found.setdefault(trial.tried.number, trial)
        if _rank(trial) < _rank(known):
            found[trial.tried.number] = trial
    return [found[number] for number in sorted(found)]


def family_of(ledger: Ledger, search: Run) -> list[Run]:
    """The search with all that it goes on with, and all that go on with it, oldest first."""
    root = search
    while root.parent_id is not None:
        root = ledger.runs.get(root.parent_id)
    family = [root]
    for member in family:  # grows while it is walked
        family.extend(ledger.runs.list(parent_id=member.id, kind="tune"))
    return family


def require_resumable(ledger: Ledger, search: Run) -> None:
    """Raises TrainingError for what is no search, or one whose family has found what it looked for,
    or runs."""
    if search.kind != "tune":
        raise TrainingError(
            f"run {search.id} is no search but a {search.kind}; `raymlops runs list --kind tune` "
            "lists searches"
        )
    for member in family_of(ledger, search):
        if member.status == "finished":
            raise TrainingError(
                f"search {member.id} has finished, so there is nothing to go on with: start a new "
                "one by `raymlops tune CONFIG`"
            )
        if member.status == "running":
            raise _runs(member)


def require_first(ledger: Ledger, search: Run) -> None:
    """Of searches that go on with the same one at the same moment, only the first does.

    Raises:
        TrainingError: another was recorded before `search`.
    """
    for other in family_of(ledger, search):
        earlier = (other.started_at, other.id) < (search.started_at, search.id)
        if other.status == "running" and earlier:
            raise _runs(other)


def _runs(search: Run) -> TrainingError:
    return TrainingError(
        f"search {search.id} is running, as {search.owner}; resume it when it has ended"
    )


def _trial(run: Run, last: Mapping[str, float]) -> Trial:
    if NUMBER not in run.params:
        raise TrainingError(
            f"trial {run.id} was recorded without its number, by a raymlops whose searches could "
            "not be gone on with: start a new one by `raymlops tune CONFIG`"
        )
    outcome = _OUTCOMES.get(run.status, "cut off")
    tried = Tried(
        number=run.params[NUMBER],
        parameters=parameters_in(run.params),
        outcome=outcome,
        loss=last[METRIC] if outcome == "finished" else None,
    )
    return Trial(tried=tried, run=run)


def _rank(trial: Trial) -> int:
    return _PREFERRED.index(trial.tried.outcome)
