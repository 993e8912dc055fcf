"""Where the trainer of a table leaves what it makes; what it learns is in test_training.py."""

from __future__ import annotations

import numpy as np
import pytest

from raymlops.storage import Store
from raymlops.train import ParallelPlan, TabularSpec, Trainer
from raymlops.train.tabular.arrays import Arrays
from raymlops.train.tabular.trainer import TabularTrainer


class _Asked(Exception):
    """Which folder a training was to leave its weights in."""


def test_weights_lie_below_the_path_of_a_store_whose_uri_has_options(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fit_run(self: Trainer, run_id: str, *, folder: str, ledger_url: str) -> None:
        raise _Asked(folder)

    monkeypatch.setattr(Trainer, "fit_run", fit_run)
    monkeypatch.setattr("ray.put", lambda arrays: arrays)
    rows, labels = np.zeros((4, 2), np.float32), np.zeros(4, np.float32)
    arrays = Arrays(train=rows, train_labels=labels, validation=rows, validation_labels=labels)
    trainer = TabularTrainer(spec=TabularSpec(), plan=ParallelPlan())
    store = Store("s3://models/team?region=eu-west-1")
    with pytest.raises(_Asked, match=r"^s3://models/team/training/run-7\?region=eu-west-1$"):
        trainer.fit(arrays, ledger_url="sqlite://", store=store, run_id="run-7")
