from __future__ import annotations

from raymlops.config import SecretUrl
from raymlops.train import ParallelPlan
from raymlops.train.workers.attempt import _ray_trainer
from raymlops.train.workers.worker import Task
from tests.train.specs import MLP

KEPT = "s3://AKIAKEY:very-secret@models/ours?endpoint_override=127.0.0.1:1&region=us-east-1"


def test_rays_state_of_a_training_holds_no_keys_of_the_store() -> None:
    # It is shown in the dashboard: the place that is written to, and the task of the workers.
    task = Task(
        spec=MLP,
        plan=ParallelPlan(),
        folder=SecretUrl(KEPT),
        ledger_url=SecretUrl("postgresql://ann:very-secret@127.0.0.1:1/ledger"),
        run_id="mlp-1",
        num_threads=1,
    )
    trainer = _ray_trainer(task, "mlp-1", 1, 1.0)
    assert trainer.run_config.storage_path == "models/ours"
    assert "very-secret" not in f"{trainer.run_config} {trainer.train_loop_config}"
