"""How a training goes on after a loss, and what is told of the one that ends it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from raymlops.config import Secret, SecretUrl
from raymlops.errors import LedgerError, LostWorkerError, TrainingError
from raymlops.ledger import Ledger
from raymlops.train import ParallelPlan, Trainer
from raymlops.train.workers.failures import Failure, cause_of
from raymlops.train.workers.restarts import see_through
from raymlops.train.workers.worker import Task
from tests.runs import start_training
from tests.train.specs import MLP
from tests.train.workers.test_failures import KILLED, LOST_SHARD, SECRET, broken_file, left_behind


def fails_with(failure: Failure, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Trainer, "_require_room", lambda self: None)
    monkeypatch.setattr("raymlops.train.workers.restarts.wait_for_room", lambda *_, **__: None)
    monkeypatch.setattr("raymlops.train.workers.restarts.attempt", lambda *_, **__: failure)


def diverges() -> None:
    raise TrainingError("the loss is nan at step 3 of epoch 1")


def test_what_raymlops_says_itself_is_told_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A page of its own lines stood before it, and the name of a class in it."""
    fails_with(cause_of({1: left_behind(diverges)}), monkeypatch)
    with pytest.raises(TrainingError) as caught:
        Trainer(MLP).fit_run("digits-1", folder="/nowhere", ledger_url="sqlite://")
    assert str(caught.value).startswith("run digits-1: worker 1 failed: the loss is nan at step 3")
    assert not caplog.records


def test_all_that_a_worker_left_behind_is_logged(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    secret = Secret("shibboleth-81")
    failure = cause_of({1: left_behind(broken_file) + secret.reveal()})
    fails_with(failure, monkeypatch)
    with pytest.raises(TrainingError, match="worker 1 failed: RuntimeError: the file is broken"):
        Trainer(MLP).fit_run("digits-1", folder="/nowhere", ledger_url="sqlite://")
    (record,) = caplog.records
    assert record.getMessage() == (
        f"run digits-1: worker 1 ended with:\n{failure.text.replace(secret.reveal(), '***')}"
    )


@pytest.mark.parametrize(
    ("step", "told"),
    [
        (40, "interrupted; `raymlops train --resume digits-1` goes on from step 40"),
        (None, "interrupted"),
    ],
)
def test_an_interrupted_training_tells_how_it_goes_on(
    step: int | None, told: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It ended without a word after Ctrl-C, and its run was failed."""

    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Trainer, "_require_room", lambda self: None)
    monkeypatch.setattr("raymlops.train.workers.restarts.wait_for_room", lambda *_, **__: None)
    monkeypatch.setattr("raymlops.train.workers.restarts.newest_step", lambda *_: step)
    monkeypatch.setattr("raymlops.train.workers.restarts.attempt", interrupted)
    with pytest.raises(KeyboardInterrupt):
        Trainer(MLP).fit_run("digits-1", folder="/nowhere", ledger_url="sqlite://")
    assert caplog.messages == [f"run digits-1: {told}"]


def test_a_training_that_ray_train_gave_up_tells_how_it_goes_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def lost(*_: object, **__: object) -> None:
        raise LostWorkerError("run digits-1: Ray Train could not start them")

    fails_with(cause_of({}), monkeypatch)
    monkeypatch.setattr("raymlops.train.workers.restarts.attempt", lost)
    monkeypatch.setattr("raymlops.train.workers.restarts.newest_step", lambda *_: 40)
    told = r"could not start them; `raymlops train --resume digits-1` goes on from step 40$"
    with pytest.raises(LostWorkerError, match=told):
        Trainer(MLP).fit_run("digits-1", folder="/nowhere", ledger_url="sqlite://")


@pytest.fixture
def lost_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Task, Ledger]]:
    """The task of a run whose workers are lost in its first two attempts, and its ledger."""
    failures = [cause_of({1: KILLED}), cause_of({0: f"{LOST_SHARD} {SECRET.reveal()}"}), None]
    fails_with(cause_of({}), monkeypatch)
    monkeypatch.setattr("raymlops.train.workers.restarts.attempt", lambda *_, **__: failures.pop(0))
    with Ledger(f"sqlite:///{tmp_path / 'ledger.db'}") as ledger:
        run = start_training(ledger, "mlp")
        task = Task(
            spec=MLP, plan=ParallelPlan(data=2), folder=SecretUrl(str(tmp_path)), run_id=run.id,
            ledger_url=SecretUrl(ledger.url), num_threads=1,
        )  # fmt: skip
        yield task, ledger


def test_a_run_that_finished_keeps_what_it_went_through(lost_twice: tuple[Task, Ledger]) -> None:
    """Its restarts stood in a terminal alone, and those at the same step left no trace at all."""
    task, ledger = lost_twice
    see_through(task, min_workers=None, cpus_per_worker=1.0, max_restarts=2)
    assert ledger.runs.tags(task.run_id) == {
        "restart_1": "worker 1 was lost (The actor is dead because its worker process has died. "
        "Worker exit type: SYSTEM_ERROR); no checkpoint yet, starting anew",
        "restart_2": "worker 0 was lost (shard 0 is lost: The actor is dead ***); "
        "no checkpoint yet, starting anew",
    }


def test_a_restart_does_not_wait_for_the_ledger(
    lost_twice: tuple[Task, Ledger],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    task, _ = lost_twice

    def away(*_: object) -> None:
        raise LedgerError("the ledger is away")

    monkeypatch.setattr("raymlops.train.workers.restarts.open_ledger", away)
    see_through(task, min_workers=None, cpus_per_worker=1.0, max_restarts=2)
    told = f"run {task.run_id}: restart 2 is not recorded: the ledger is away"
    assert told in caplog.messages
