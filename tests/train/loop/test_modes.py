"""What models make of training and evaluation."""

from __future__ import annotations

from dataclasses import replace

import torch

from raymlops.train.spec.factory import Factory
from tests.train import models
from tests.train.loop.fitting import PLAIN, fit


def test_what_the_model_put_in_evaluation_mode_stays_so() -> None:
    _, trained, progress = fit(replace(PLAIN, model=Factory(call="tests.train.models:frozen_norm")))
    assert progress.epoch == 3  # the model was validated in between
    norm = trained.get_submodule("1")
    assert int(norm.get_buffer("num_batches_tracked")) == 0
    assert torch.equal(norm.get_buffer("running_mean"), torch.zeros(32))
    assert not torch.equal(norm.get_parameter("weight"), torch.ones(32))  # which is no mode


class FreezingItself(torch.nn.Linear):
    """Freezes a part of it where it is told to train, as many detectors do."""

    def __init__(self) -> None:
        super().__init__(64, 10)
        self.dropout = torch.nn.Dropout(1.0)

    def train(self, mode: bool = True) -> FreezingItself:
        super().train(mode)
        self.dropout.eval()
        return self

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        dropped: torch.Tensor = self.dropout(super().forward(rows))
        return dropped


def test_a_model_may_have_a_way_to_train_of_its_own() -> None:
    logged, _, _ = fit(
        replace(PLAIN, model=Factory(call="tests.train.loop.test_modes:FreezingItself"))
    )
    losses = [values["loss"] for values in logged if "loss" in values]
    assert losses[-1] < losses[0]  # without outputs there would be nothing to learn


def handed_out() -> torch.nn.Module:
    return models.frozen_norm().eval()


def test_a_model_in_evaluation_mode_as_a_whole_is_trained() -> None:
    # Libraries hand out pretrained models so; nobody chose what to freeze.
    _, trained, _ = fit(
        replace(PLAIN, model=Factory(call="tests.train.loop.test_modes:handed_out"))
    )
    assert int(trained.get_submodule("1").get_buffer("num_batches_tracked")) > 0
