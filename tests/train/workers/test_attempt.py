from __future__ import annotations

import pytest
from ray.exceptions import OutOfMemoryError, RayError

from raymlops.config import SecretUrl
from raymlops.train import ParallelPlan
from raymlops.train.workers.attempt import _ray_trainer, attempt
from raymlops.train.workers.failures import Failure
from raymlops.train.workers.worker import Task
from tests.train.specs import MLP

KEPT = "s3://AKIAKEY:very-secret@models/ours?endpoint_override=127.0.0.1:1&region=us-east-1"


TASK = Task(
    spec=MLP,
    plan=ParallelPlan(),
    folder=SecretUrl(KEPT),
    ledger_url=SecretUrl("postgresql://ann:very-secret@127.0.0.1:1/ledger"),
    run_id="mlp-1",
    num_threads=1,
)


def test_rays_state_of_a_training_holds_no_keys_of_the_store() -> None:
    # It is shown in the dashboard: the place that is written to, and the task of the workers.
    trainer = _ray_trainer(TASK, "mlp-1", 1, 1.0)
    assert trainer.run_config.storage_path == "models/ours"
    assert "very-secret" not in f"{trainer.run_config} {trainer.train_loop_config}"


def test_ray_train_does_not_ask_for_workers_for_ever() -> None:
    """Once a minute, for half an hour."""
    failures = _ray_trainer(TASK, "mlp-1", 1, 1.0).run_config.failure_config
    assert (failures.max_failures, failures.controller_failure_limit) == (0, 30)


LOW = "7 worker(s) were killed due to the node running low on memory. Memory on the node was 22GB"


class Ended:
    """Ray Train when its controller ends with an error."""

    def __init__(self, error: RayError) -> None:
        self._error = error

    def fit(self) -> None:
        raise self._error


def ended_by(error: RayError, monkeypatch: pytest.MonkeyPatch) -> Failure | None:
    monkeypatch.setattr(
        "raymlops.train.workers.attempt._ray_trainer", lambda *_arguments: Ended(error)
    )
    monkeypatch.setattr("raymlops.train.workers.controller.sweep", lambda: None)
    return attempt(TASK, "mlp-1", num_workers=1, cpus_per_worker=1.0)


def test_memory_that_took_the_controller_too_is_told_as_of_a_worker(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whoever trained got Ray's own error, a page of it."""
    page = f"{LOW}\nSelected to kill: TrainController\nTo adjust the threshold, set a variable"
    failure = ended_by(OutOfMemoryError(page), monkeypatch)
    assert failure is not None
    assert (failure.kind, failure.who) == ("memory", "a worker")
    assert failure.reason == f"OutOfMemoryError: {LOW}"
    assert failure.text.endswith(page)
