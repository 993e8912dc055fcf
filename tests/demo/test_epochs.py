from __future__ import annotations

from pathlib import Path

from raymlops.demo.epochs import EpochFollower
from raymlops.ledger import Ledger
from tests.runs import start_training


def test_epochs_are_counted_whatever_the_step(tmp_path: Path) -> None:
    """Losses are logged by step: the demo told of epoch 212 of 8."""
    url, said = f"sqlite:///{tmp_path}/l.db", list[str]()
    with Ledger(url) as ledger, EpochFollower(url, "m", said.append):
        run = start_training(ledger, "m")
        for epoch in (1, 2):
            losses = {"train_loss": 1.0 / epoch, "validation_loss": 2.0 / epoch}
            ledger.runs.log(run.id, losses, step=106 * epoch)
    assert said == [
        "epoch 1: train loss 1.0000, validation loss 2.0000",
        "epoch 2: train loss 0.5000, validation loss 1.0000",
    ]
