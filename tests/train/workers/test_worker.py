"""What a worker tells the ledger."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from raymlops.config import SecretUrl
from raymlops.errors import LedgerError
from raymlops.ledger import Ledger
from raymlops.ledger.tracking.runs import Runs
from raymlops.train import ParallelPlan
from raymlops.train.workers.worker import Task, recorder
from tests.runs import start_training
from tests.train.specs import MLP


class Clock:
    """Ten seconds go by whenever somebody sleeps."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def monotonic(self) -> float:
        return self.now_s

    def sleep(self, _: float) -> None:
        self.now_s += 10.0


def test_a_checkpoint_waits_for_a_ledger_that_fails_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A database that was away for a minute ended the training."""
    clock = Clock()
    log_many = Runs.log_many

    def away(runs: Runs, run_id: str, logged: Sequence[Any], **by: Any) -> None:
        if clock.now_s < 200.0:
            raise LedgerError("the database is away")
        log_many(runs, run_id, logged, **by)

    monkeypatch.setattr(Runs, "log_many", away)
    fake = SimpleNamespace(monotonic=clock.monotonic, sleep=clock.sleep)
    monkeypatch.setattr("raymlops.ledger.tracking.logger.time", fake)
    with Ledger(f"sqlite:///{tmp_path / 'ledger.db'}") as ledger:
        run = start_training(ledger, "mlp")
        task = Task(
            spec=MLP, plan=ParallelPlan(), folder=SecretUrl(str(tmp_path)), run_id=run.id,
            ledger_url=SecretUrl(ledger.url), num_threads=1,
        )  # fmt: skip
        with recorder(task) as log:
            log({"loss": 0.5}, 1)
            log.flush()
            assert [each.value for each in ledger.runs.metrics(run.id, "loss")] == [0.5]
