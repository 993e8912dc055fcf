"""What a training has learned outlives a ledger and a store that are away at its end."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest

from raymlops.data import TableSchema, add_dataset
from raymlops.errors import LedgerError
from raymlops.ledger import Code, Ledger
from raymlops.ledger.tracking.runs import Runs
from raymlops.storage import Store
from raymlops.train import ParallelPlan, TabularSpec
from raymlops.train.tabular.arrays import Arrays
from raymlops.train.tabular.network import Perceptron
from raymlops.train.tabular.trainer import TabularTrainer, fit_alone
from raymlops.train.tabular.training import NETWORK, Provenance, TrainingJob


def test_a_trained_table_waits_for_a_ledger_that_is_away(
    ledger: Ledger,
    store: Store,
    tumours: pa.Table,
    tumour_schema: TableSchema,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its figures were written once: hours of training failed over a database that failed over."""
    monkeypatch.setattr("raymlops.ledger.patience._RETRY_S", 0.0)
    log, num_away = Runs.log, 0

    def away(runs: Runs, *args: Any, **kwargs: Any) -> None:
        nonlocal num_away
        num_away -= 1
        if num_away >= 0:
            raise LedgerError("the database is away")
        log(runs, *args, **kwargs)

    def fit(trainer: TabularTrainer, arrays: Arrays, **_: object) -> Perceptron:
        nonlocal num_away
        num_away = 3
        return fit_alone(arrays, trainer.spec, on_epoch=lambda _: None)

    monkeypatch.setattr(Runs, "log", away)
    monkeypatch.setattr(TabularTrainer, "fit", fit)
    monkeypatch.setattr(TrainingJob, "_plan_with_room", lambda job: job.plan)
    job = TrainingJob(
        model="tumours",
        schema=tumour_schema,
        spec=TabularSpec(hidden=(4,), epochs=1, batch_size=100),
        plan=ParallelPlan(),
        provenance=Provenance(
            code=Code(commit="c" * 40, dirty_digest=None), config="{}", environment="python"
        ),
    )
    training = job.run(ledger, store, add_dataset(ledger, store, tumours, tumour_schema))
    assert training.run.status == "finished"
    loss = ledger.runs.last_metrics(training.run.id)["log_loss"]
    assert loss == training.qualities[NETWORK].loss
