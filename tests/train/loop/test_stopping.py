"""What is no number is told or skipped, and patience ends."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from raymlops.data.loading import ArraySource
from raymlops.errors import TrainingError
from raymlops.train.loop.progress import Progress
from raymlops.train.spec import OptimizerSpec, StoppingPolicy
from raymlops.train.spec.factory import Factory
from raymlops.train.spec.loading import LoadingSpec
from raymlops.train.spec.sources import Sources
from tests.train import models
from tests.train.loop.fitting import BLANK, PLAIN, broken_digits, fit


def test_a_loss_that_is_no_number_stops_with_its_step() -> None:
    with pytest.raises(TrainingError, match="the loss is nan at step 1 of epoch 1; try a learning"):
        fit(PLAIN, broken_digits(200))


@pytest.mark.parametrize("max_steps", [None, 1])  # also where no later loss would tell
def test_a_gradient_that_is_no_number_stops_with_its_step(max_steps: int | None) -> None:
    spec = replace(BLANK, max_steps=max_steps)
    with pytest.raises(TrainingError, match="gradients are not finite at step 1 of epoch 1"):
        fit(spec)


@pytest.mark.parametrize("accumulation", [1, 2])
def test_a_step_whose_gradient_is_no_number_is_skipped_if_asked_to(accumulation: int) -> None:
    skipping = replace(BLANK, batch_size=20, stopping=StoppingPolicy(on_nan="skip"))
    logged, model, progress = fit(replace(skipping, accumulation=accumulation))
    assert progress.step == 10
    assert sum(values.get("skipped", 0.0) for values in logged) == 1.0
    assert all(bool(p.isfinite().all()) for p in model.parameters())
    assert not any("gradient_norm" in values for values in logged)


def test_a_step_that_is_no_number_is_skipped_if_asked_to() -> None:
    spec = replace(PLAIN, epochs=1, batch_size=20, stopping=StoppingPolicy(on_nan="skip"))
    logged, model, progress = fit(spec, broken_digits(1))
    assert progress.step == 10
    assert sum(values.get("skipped", 0.0) for values in logged) == 1.0
    assert all(bool(p.isfinite().all()) for p in model.parameters())
    # The epoch's loss is that of the nine batches that count: ten made it a tenth too low.
    losses = [values["loss"] for values in logged if "skipped" not in values and "loss" in values]
    assert [values["train_loss"] for values in logged if "train_loss" in values] == pytest.approx(
        [sum(losses) / 9]
    )


def test_a_skipped_step_leaves_running_statistics_as_they_were() -> None:
    spec = replace(
        PLAIN,
        model=Factory(call="tests.train.updaters.training:normed_mlp"),
        loading=LoadingSpec(order="none"),
        epochs=1,
        batch_size=20,
        stopping=StoppingPolicy(on_nan="skip"),
    )
    broken = broken_digits(20)  # which are all of the first batch
    rest = ArraySource([column[20:] for column in broken.train.columns])
    _, expected, _ = fit(spec, Sources(train=rest))
    logged, model, _ = fit(spec, broken)
    assert logged[0]["skipped"] == 1.0
    norm, unbroken = model.get_submodule("1"), expected.get_submodule("1")
    for name, buffer in norm.named_buffers():  # they were no numbers from then on
        assert torch.equal(buffer, unbroken.get_buffer(name)), name


def test_an_epoch_without_a_number_has_no_loss() -> None:
    skipped = Progress().after_step(math.nan, num_rows=20, finite=False, precision="fp32")
    assert math.isnan(skipped.mean_loss(20))
    assert skipped.after_epoch(None, StoppingPolicy()).uncounted_rows == 0


def test_too_many_skipped_in_a_row_stop_all_the_same() -> None:
    policy = StoppingPolicy(on_nan="skip", max_skips=3)
    spec = replace(PLAIN, batch_size=20, stopping=policy)
    with pytest.raises(
        TrainingError, match="the loss is nan at step 4 of epoch 1, the last of 4 such"
    ):
        fit(spec, broken_digits(200))


def test_patience_ends_a_training_that_no_longer_gains() -> None:
    still = replace(
        PLAIN,
        epochs=50,
        optimizer=OptimizerSpec(name="sgd", learning_rate=1e-30),
        stopping=StoppingPolicy(patience=2),
    )
    _, _, progress = fit(still)
    assert progress.epoch == 4  # the first was the best, two more did not help
    assert progress.ended is not None
    assert "in 2 epochs" in progress.ended


def test_patience_without_rows_to_validate_on_is_refused() -> None:
    """It was passed over: all epochs ran."""
    train, _ = models.digits(200)
    patient = replace(PLAIN, stopping=StoppingPolicy(patience=2))
    with pytest.raises(TrainingError, match=r"patience is 2, and the data hold nothing to valid"):
        fit(patient, Sources(train=train))


@pytest.mark.parametrize(
    ("losses", "why"),
    [
        ([math.nan, math.nan], "was nan after all 2 epochs"),
        ([0.5, 0.5, math.nan], "has not fallen below 0.5 in 2 epochs, and was nan at last"),
        ([0.5, math.nan, 0.75], "has not fallen below 0.5 in 2 epochs"),
    ],
)
def test_patience_tells_of_losses_that_are_no_numbers(losses: list[float], why: str) -> None:
    """They had not fallen below inf."""
    progress = Progress()
    for loss in losses:
        progress = progress.after_epoch(loss, StoppingPolicy(patience=2))
    assert progress.ended == f"the validation loss {why}"
