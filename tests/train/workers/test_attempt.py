from __future__ import annotations

from raymlops.config import SecretUrl
from raymlops.train import ParallelPlan
from raymlops.train.workers.attempt import _ray_trainer
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
