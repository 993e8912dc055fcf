"""A search outlives a ledger that is away: its trials took moments to fail, all that were left."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pytest

from raymlops.data import TableSchema, add_dataset
from raymlops.errors import LedgerError
from raymlops.ledger import Code, Dataset, Ledger
from raymlops.ledger.tracking.runs import Runs
from raymlops.storage import Store
from raymlops.train import ParallelPlan, TabularSpec
from raymlops.train.tabular.split import split_by_time
from raymlops.train.tabular.training import Provenance, TrainingJob
from raymlops.tune import search
from raymlops.tune.progress import TrialsTold
from raymlops.tune.trials import trials_of

PARAMETERS = {
    "trial": 3,
    "hidden": "[4]",
    "dropout": 0.0,
    "learning_rate": 0.01,
    "weight_decay": 0.0,
}


def away_at_first(method: Callable[..., Any]) -> Callable[..., Any]:
    """`method`, for which the ledger is away twice."""
    num_away = 2

    def asked(*args: Any, **kwargs: Any) -> Any:
        nonlocal num_away
        num_away -= 1
        if num_away >= 0:
            raise LedgerError("the database is away")
        return method(*args, **kwargs)

    return asked


@pytest.fixture(autouse=True)
def _tries_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("patience", "tracking.runs", "tracking.logger"):
        monkeypatch.setattr(f"raymlops.ledger.{module}._RETRY_S", 0.0)


@pytest.fixture
def job(tumour_schema: TableSchema) -> TrainingJob:
    return TrainingJob(
        model="tumours",
        schema=tumour_schema,
        spec=TabularSpec(epochs=2, batch_size=100),
        plan=ParallelPlan(),
        provenance=Provenance(
            code=Code(commit="c" * 40, dirty_digest=None), config="{}", environment="python"
        ),
    )


def test_a_trial_waits_for_the_ledger_wherever_it_needs_it(
    ledger: Ledger,
    store: Store,
    tumours: pa.Table,
    job: TrainingJob,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    dataset = add_dataset(ledger, store, tumours, job.schema)
    run = job.start(ledger, dataset, "tune", {})
    reported: list[object] = []
    monkeypatch.setattr("ray.get", lambda arrays: arrays)
    monkeypatch.setattr("ray.tune.report", reported.append)
    monkeypatch.setattr(search, "open_ledger", away_at_first(search.open_ledger))
    for name in ("add", "log_many", "end"):
        monkeypatch.setattr(Runs, name, away_at_first(getattr(Runs, name)))

    search._run_trial(
        PARAMETERS,
        job=job,
        arrays=[split_by_time(tumours, job.schema, 0.2).arrays],
        ledger_url=ledger.url,
        parent_id=run.id,
        dataset=dataset,
    )
    (trial,) = trials_of(ledger, run)
    assert trial.run.status == "finished"
    values = ledger.runs.metrics(trial.run.id)
    assert [each.step for each in values if each.name == "validation_loss"] == [1, 2]
    assert reported == [{"validation_loss": trial.tried.loss}]


def test_what_came_of_trials_waits_for_it(
    ledger: Ledger,
    dataset: Dataset,
    job: TrainingJob,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Ray Tune ended the search with what its callback had raised."""
    run = job.start(ledger, dataset, "tune", {})
    killed = job.start(ledger, dataset, "trial", PARAMETERS, run.id)
    store = Store("s3://models/home?region=here")
    told = TrialsTold(ledger, run.id, place=store.below)
    error = tmp_path / "error.txt"
    error.write_text("Failure # 1\nThe actor died unexpectedly before finishing this task.\n")
    trial = SimpleNamespace(
        config=PARAMETERS, error_file=str(error), custom_dirname="t", last_result={}
    )
    for name in ("log", "list"):
        monkeypatch.setattr(Runs, name, away_at_first(getattr(Runs, name)))
    told.on_trial_error(1, [trial], trial)
    assert "its traceback will be in s3://models/home/t/error.txt?region=here" in caplog.text
    assert ledger.runs.get(killed.id).status == "failed"
    monkeypatch.setattr(Runs, "log", away_at_first(Runs.log))
    trial.last_result = {"validation_loss": 0.5}
    told.on_trial_complete(2, [trial], trial)
    assert ledger.runs.last_metrics(run.id) == {"num_ended": 2, "best_validation_loss": 0.5}


def test_the_winner_is_decided_once_though_the_answer_was_lost(
    ledger: Ledger, dataset: Dataset, job: TrainingJob
) -> None:
    run = job.start(ledger, dataset, "tune", {})
    found = search.Search(run=run, best_run=run, best=job.spec, validation_loss=0.5, num_trials=1)
    search._keep(ledger, job, found)
    search._keep(ledger, job, found)
    assert len(ledger.decisions.list(kind="tune")) == 1
