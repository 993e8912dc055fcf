from __future__ import annotations

from typing import Any

import pytest

from raymlops.errors import TrainingError
from raymlops.ledger import Code, Ledger, Run
from raymlops.tune.trials import require_first, require_resumable, trials_of

CODE = Code(commit="c" * 40, dirty_digest=None)


def start(ledger: Ledger, kind: str, parent: Run | None = None, **params: Any) -> Run:
    return ledger.runs.start(
        kind=kind, model="tumours", params=params, code=CODE, config="{}", environment="",
        inputs={}, parent_id=parent and parent.id,
    )  # fmt: skip


def start_trial(ledger: Ledger, search: Run, number: int) -> Run:
    tried = {"hidden": [8, 4], "dropout": 0.1, "learning_rate": 0.01, "weight_decay": 0.001}
    return start(ledger, "trial", search, trial=number, **tried)


def finish(ledger: Ledger, trial: Run, loss: float) -> None:
    ledger.runs.log(trial.id, {"validation_loss": loss}, step=1)
    ledger.runs.finish(trial.id)


def test_each_trial_of_a_chain_of_searches_counts_once(ledger: Ledger) -> None:
    first = start(ledger, "tune")
    done, bad, cut_off, orphan = (start_trial(ledger, first, number) for number in range(4))
    finish(ledger, done, 0.5)
    ledger.runs.fail(bad.id, "TrainingError: the loss is nan")
    ledger.runs.fail(first.id, "KeyboardInterrupt")
    second = start(ledger, "tune", first)
    again, beside = start_trial(ledger, second, 2), start_trial(ledger, second, 3)
    finish(ledger, again, 0.4)
    finish(ledger, beside, 0.3)
    finish(ledger, orphan, 0.3)  # it outlived its driver for a moment
    start(ledger, "reference", first)

    for search in (first, second):
        trials = trials_of(ledger, search)
        assert [each.run.id for each in trials] == [done.id, bad.id, again.id, orphan.id]
        assert [each.tried.loss for each in trials] == [0.5, None, 0.4, 0.3]
        assert [each.has_ended for each in trials] == [True] * 4
    assert trials[0].tried.parameters["hidden"] == "[8, 4]"
    assert cut_off.id not in {each.run.id for each in trials}


def test_only_a_search_that_was_cut_off_can_be_gone_on_with(ledger: Ledger) -> None:
    with pytest.raises(TrainingError, match="is no search but a train; `raymlops runs list --kind"):
        require_resumable(ledger, start(ledger, "train"))
    first = start(ledger, "tune")
    with pytest.raises(TrainingError, match=f"search {first.id} is running, as {first.owner};"):
        require_resumable(ledger, first)
    ledger.runs.fail(first.id, "KeyboardInterrupt")
    require_resumable(ledger, ledger.runs.get(first.id))
    second = start(ledger, "tune", first)
    with pytest.raises(TrainingError, match=f"search {second.id} is running, as {second.owner};"):
        require_resumable(ledger, ledger.runs.get(first.id))
    ledger.runs.finish(second.id)
    with pytest.raises(
        TrainingError, match=f"search {second.id} has finished, so there is nothing"
    ):
        require_resumable(ledger, ledger.runs.get(first.id))


def test_of_two_that_go_on_at_once_the_first_does(ledger: Ledger) -> None:
    lost = start(ledger, "tune")
    ledger.runs.fail(lost.id, "KeyboardInterrupt")
    first, second = start(ledger, "tune", lost), start(ledger, "tune", lost)
    require_first(ledger, first)
    with pytest.raises(TrainingError, match=f"search {first.id} is running"):
        require_first(ledger, second)


def test_trials_without_numbers_are_told(ledger: Ledger) -> None:
    search = start(ledger, "tune")
    start(ledger, "trial", search, dropout=0.1)
    with pytest.raises(TrainingError, match="was recorded without its number"):
        trials_of(ledger, search)
