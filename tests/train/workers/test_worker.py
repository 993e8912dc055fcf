"""What a worker tells the ledger, and leaves behind."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from raymlops.config import SecretUrl
from raymlops.errors import LedgerError, UnavailableError
from raymlops.ledger import Ledger, Metric
from raymlops.ledger.tracking.runs import Runs
from raymlops.storage import Files
from raymlops.train import ParallelPlan
from raymlops.train.workers.worker import Task, deliver, recorder
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


@pytest.fixture
def task(ledger: Ledger, tmp_path: Path) -> Task:
    return Task(
        spec=MLP, plan=ParallelPlan(), folder=SecretUrl(str(tmp_path)), num_threads=1,
        ledger_url=SecretUrl(ledger.url), run_id=start_training(ledger, "mlp").id,
    )  # fmt: skip


def test_a_run_that_goes_on_from_another_begins_at_its_step(
    task: Task, ledger: Ledger, tmp_path: Path
) -> None:
    """It was said to be at step 0 until its next one, and for ever where there was none."""
    checkpoint = tmp_path / "step-00000010" / "complete.json"
    checkpoint.parent.mkdir()
    checkpoint.write_text("{}")
    with recorder(task) as log:
        log.begin(num_workers=2, num_steps=10)
    (told,) = ledger.runs.metrics(task.run_id, "num_workers")
    assert (told.step, told.value) == (10, 2.0)


def test_a_checkpoint_waits_for_a_ledger_that_fails_over(
    task: Task, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
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
    with recorder(task) as log:
        log({"loss": 0.5}, 1)
        log.flush()
        assert [each.value for each in ledger.runs.metrics(task.run_id, "loss")] == [0.5]


def test_an_attempt_waits_for_a_ledger_that_was_lost_with_a_worker(
    task: Task, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A machine that held both ended the training: the next attempt failed as it began."""
    monkeypatch.setattr("raymlops.ledger.patience._RETRY_S", 0.0)
    metrics, failures = Runs.metrics, 3

    def away(runs: Runs, run_id: str) -> Sequence[Metric]:
        nonlocal failures
        failures -= 1
        if failures >= 0:
            raise LedgerError("the database is away")
        return metrics(runs, run_id)

    ledger.runs.log(task.run_id, {"loss": 0.5}, step=1)
    monkeypatch.setattr(Runs, "metrics", away)
    with recorder(task) as log:
        log({"loss": 0.7}, 1)
        log({"loss": 0.4}, 2)
    assert [each.value for each in metrics(ledger.runs, task.run_id)] == [0.5, 0.4]


def test_what_was_trained_waits_for_a_store_that_is_away(
    task: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Eight seconds without S3 at the end of days of training lost them."""
    monkeypatch.setattr("raymlops.ledger.patience._RETRY_S", 0.0)
    write, failures = Files.write, 3

    def away(files: Files, name: str, data: bytes) -> None:
        nonlocal failures
        failures -= 1
        if failures >= 0:
            raise UnavailableError("503; gave up after 8 attempts in 8.1 s")
        write(files, name, data)

    monkeypatch.setattr(Files, "write", away)
    deliver(task, {"weights.pt": b"0.5"})
    assert (tmp_path / "weights.pt").read_bytes() == b"0.5"
