"""The loop by itself: precision, what is not a number, patience, accumulation."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from raymlops.data.loading import ArraySource
from raymlops.errors import TrainingError
from raymlops.train.checkpoints.checkpoints import Checkpoints
from raymlops.train.loop.batches import pieces
from raymlops.train.loop.loop import Loop
from raymlops.train.loop.progress import Progress
from raymlops.train.loop.scale import LossScale
from raymlops.train.plan.seat import Seat
from raymlops.train.spec import (
    CheckpointPolicy,
    OptimizerSpec,
    ScheduleSpec,
    StoppingPolicy,
    TrainSpec,
)
from raymlops.train.spec.factory import Factory
from raymlops.train.spec.loading import LoadingSpec
from raymlops.train.spec.sources import Sources
from raymlops.train.updaters import clipping
from tests.train import models
from tests.train.specs import MLP

PLAIN = replace(MLP, accumulation=1, clip_norm=None, epochs=2, max_steps=None)
BLANK = replace(
    PLAIN,
    model=Factory(call="tests.train.models:lengths"),
    data=Factory(call="tests.train.models:blank_digits"),
    batch_size=200,
    epochs=1,
)


def fit(
    spec: TrainSpec, sources: Sources | None = None
) -> tuple[list[Mapping[str, float]], torch.nn.Module, Progress]:
    logged: list[Mapping[str, float]] = []
    loop = Loop(spec, Seat(), sources=sources, log=lambda values, step: logged.append(values))
    progress = loop.run()
    return logged, loop.parts[0], progress


def test_the_loop_is_that_of_plain_torch() -> None:
    spec = replace(
        PLAIN,
        clip_norm=0.5,
        optimizer=OptimizerSpec(name="sgd", learning_rate=0.5, arguments={"momentum": 0.9}),
        schedule=ScheduleSpec(name="linear"),
    )
    logged, trained, _ = fit(spec)

    torch.manual_seed(0)
    model = models.mlp()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5, momentum=0.9)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / 14)
    train, validation = models.digits(333, 101)
    assert validation is not None
    losses = []
    for epoch in (1, 2):
        order = np.random.default_rng((0, epoch)).permutation(333)
        for start in range(0, 333, 50):
            images, labels = map(torch.from_numpy, train.take(order[start : start + 50]))
            loss = torch.nn.functional.cross_entropy(model(images), labels)
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 0.5)
            optimizer.step()
            scheduler.step()
            losses.append(float(loss.detach()))
    assert [v["loss"] for v in logged if "loss" in v] == pytest.approx(losses, abs=1e-5)
    for ours, theirs in zip(trained.parameters(), model.parameters(), strict=True):
        assert torch.allclose(ours, theirs, atol=1e-5)
    images, labels = map(torch.from_numpy, validation.take(np.arange(101)))
    expected = float(torch.nn.functional.cross_entropy(model(images).detach(), labels))
    assert logged[-1]["validation_loss"] == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_lower_precision_learns_what_full_precision_learns(precision: str) -> None:
    spec = replace(PLAIN, epochs=6, optimizer=OptimizerSpec(learning_rate=1e-2))
    full, _, _ = fit(spec)
    lower, model, _ = fit(replace(spec, precision=precision))  # type: ignore[arg-type]
    assert full[-1]["validation_loss"] < 0.6
    assert lower[-1]["validation_loss"] == pytest.approx(full[-1]["validation_loss"], abs=0.05)
    assert lower[-1]["validation_loss"] != full[-1]["validation_loss"]
    assert {p.dtype for p in model.parameters()} == {torch.float32}


def test_the_loss_scale_moves_as_torchs_own() -> None:
    overflows = {3, 4, 2500}
    theirs = torch.amp.GradScaler("cpu")
    weight = torch.nn.Parameter(torch.ones(1))
    optimizer = torch.optim.SGD([weight], lr=0.0)
    ours = LossScale.first("fp16")
    for step in range(4700):
        finite = step not in overflows
        theirs.scale(weight.sum())
        weight.grad = torch.tensor([1.0 if finite else math.inf])
        theirs.step(optimizer)
        theirs.update()
        ours = ours.after("fp16", finite=finite)
        assert ours.value == theirs.get_scale(), step


def broken_digits(num_broken: int) -> Sources:
    train, _ = models.digits(200)
    images, labels = (column.copy() for column in train.columns)
    images[:num_broken, 0] = np.nan
    return Sources(train=ArraySource([images, labels]))


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


def test_gradients_are_no_numbers_as_soon_as_one_of_them_is_not() -> None:
    for dtype in (torch.float16, torch.float32, torch.float64):
        weight = torch.nn.Parameter(torch.zeros(3, 4, dtype=dtype))
        weight.grad = torch.full_like(weight, torch.finfo(torch.float16).max)
        table = torch.nn.Embedding(5, 2, sparse=True, dtype=dtype)
        table(torch.tensor([1, 1, 3])).sum().backward()
        parameters = [weight, *table.parameters(), torch.nn.Parameter(torch.zeros(1))]
        assert clipping.total_sum(parameters, Seat()) == 12 * 65504 + 6
        for broken in (math.inf, -math.inf, math.nan):
            weight.grad[1, 2] = broken
            assert not math.isfinite(clipping.total_sum(parameters, Seat()))


def test_complex_gradients_are_clipped_and_looked_through_as_two_numbers_each() -> None:
    """Their norm had no type to be taken in, and of their sum the imaginary part was dropped."""
    weight = torch.nn.Parameter(torch.zeros(2, dtype=torch.complex64))
    weight.grad = torch.tensor([3j, 4])
    assert clipping.total_norm([weight], Seat()) == 5.0
    assert clipping.total_sum([weight], Seat()) == 7.0
    clipping.scale_gradients([weight], 0.5)
    assert weight.grad.tolist() == [1.5j, 2]
    weight.grad[1] = complex(0, math.nan)
    assert math.isnan(clipping.total_sum([weight], Seat()))


class Bag(torch.nn.Module):
    """Each row of digits uses a few rows of a table several times."""

    def __init__(self, *, sparse: bool) -> None:
        super().__init__()
        self.table = torch.nn.EmbeddingBag(17, 8, mode="mean", sparse=sparse)
        self.head = torch.nn.Linear(8, 10)

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        outputs: torch.Tensor = self.head(self.table((rows * 16).long()))
        return outputs


def test_rows_of_a_table_learn_from_sparse_gradients_what_they_learn_from_dense_ones() -> None:
    """Every use of a row was a step of its own: they were 7e-5 apart, with momentum 4e-4."""
    rolling = OptimizerSpec(name="sgd", learning_rate=0.1, arguments={"momentum": 0.9})
    dense, sparse = (
        fit(
            replace(PLAIN, optimizer=rolling, model=Factory(call=f"{__name__}:Bag", arguments=kind))
        )
        for kind in ({"sparse": False}, {"sparse": True})
    )
    for ours, theirs in zip(sparse[1].parameters(), dense[1].parameters(), strict=True):
        assert torch.allclose(ours, theirs, atol=1e-6)


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
        model=Factory(call="tests.train.updaters.test_served:normed_mlp"),
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
        replace(PLAIN, model=Factory(call="tests.train.loop.test_loop:FreezingItself"))
    )
    losses = [values["loss"] for values in logged if "loss" in values]
    assert losses[-1] < losses[0]  # without outputs there would be nothing to learn


def handed_out() -> torch.nn.Module:
    return models.frozen_norm().eval()


def test_a_model_in_evaluation_mode_as_a_whole_is_trained() -> None:
    # Libraries hand out pretrained models so; nobody chose what to freeze.
    _, trained, _ = fit(replace(PLAIN, model=Factory(call="tests.train.loop.test_loop:handed_out")))
    assert int(trained.get_submodule("1").get_buffer("num_batches_tracked")) > 0


def slow_head(parameters: Iterable[torch.nn.Parameter], lr: float) -> torch.optim.Optimizer:
    """The last layer learns at a tenth of the rate."""
    *body, weight, bias = parameters
    return torch.optim.SGD([{"params": body}, {"params": [weight, bias], "lr": lr / 10}], lr=lr)


@pytest.mark.filterwarnings("ignore:torch.distributed is disabled")  # nobody else restores
@pytest.mark.parametrize("interrupted", [False, True])
def test_groups_of_parameters_keep_rates_of_their_own(interrupted: bool, tmp_path: Path) -> None:
    spec = replace(
        PLAIN,
        optimizer=OptimizerSpec(name="tests.train.loop.test_loop:slow_head", learning_rate=0.5),
        schedule=ScheduleSpec(name="tests.train.updaters.test_served:falling"),
        checkpoints=CheckpointPolicy(every_steps=1),
        max_steps=8,
    )
    for most in [3, 8] if interrupted else [8]:  # what is restored has the rates of its step
        checkpoints = Checkpoints(tmp_path, spec.checkpoints, Seat())
        loop = Loop(replace(spec, max_steps=most), Seat(), checkpoints=checkpoints)
        loop.run()

    torch.manual_seed(0)
    model = models.mlp()
    optimizer = slow_head(model.parameters(), 0.5)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 / (1 + step))
    train, _ = models.digits(333)
    orders = [np.random.default_rng((0, epoch)).permutation(333) for epoch in (1, 2)]
    for rows in [*np.split(orders[0], range(50, 333, 50)), orders[1][:50]]:
        images, labels = map(torch.from_numpy, train.take(rows))
        optimizer.zero_grad()
        torch.autograd.backward(torch.nn.functional.cross_entropy(model(images), labels))
        optimizer.step()
        scheduler.step()
    for ours, theirs in zip(loop.parts[0].parameters(), model.parameters(), strict=True):
        assert torch.allclose(ours, theirs, atol=1e-5)


@pytest.mark.filterwarnings("ignore:torch.distributed is disabled")  # nobody else restores
def test_an_epoch_that_was_read_at_the_last_step_is_ended(tmp_path: Path) -> None:
    """A training that was cut off there had no loss of its last epoch."""
    spec = replace(PLAIN, checkpoints=CheckpointPolicy(every_steps=7), max_steps=7)
    told: list[Mapping[str, float]] = []
    ends: list[Mapping[str, float]] = []
    for _ in range(2):  # the second goes on from the last step, before the end of its epoch
        checkpoints = Checkpoints(tmp_path, spec.checkpoints, Seat())
        loop = Loop(
            spec, Seat(), checkpoints=checkpoints, log=lambda values, step: told.append(values)
        )
        progress = loop.run()
        assert (progress.step, progress.epoch, progress.batch) == (7, 2, 0)
        ends.append(told[-1])
    assert ends[0].keys() == {"train_loss", "validation_loss"}
    assert ends[0] == ends[1]
    assert len(told) == 7 + 1 + 1


def test_pieces_part_the_rows_evenly() -> None:
    assert list(pieces(3, 2)) == [slice(0, 2), slice(2, 3)]
    assert list(pieces(1, 3)) == [slice(0, 1), slice(1, 1), slice(1, 1)]


def test_a_factory_that_makes_no_module_is_named() -> None:
    wrong = replace(PLAIN, model=Factory(call="tests.train.models:text"))
    with pytest.raises(TrainingError, match=r"models:text made a ArraySource, not a torch module"):
        fit(wrong)


def frozen() -> torch.nn.Module:
    return models.mlp().requires_grad_(False)


def test_a_model_with_nothing_to_train_is_refused() -> None:
    """Stages of a pipeline went through all steps, one process ended with what torch says."""
    wrong = replace(PLAIN, model=Factory(call=f"{__name__}:frozen"))
    with pytest.raises(TrainingError, match="frozen made a model without a parameter that requi"):
        fit(wrong)


def lazy() -> torch.nn.Module:
    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.LazyLinear(10))


def test_a_model_whose_layers_wait_for_rows_is_refused() -> None:
    """Under several workers its first weights were none that the seed gives."""
    wrong = replace(PLAIN, model=Factory(call=f"{__name__}:lazy"))
    told = r"lazy made a model in which 1\.weight, 1\.bias have no size before its first pass"
    with pytest.raises(TrainingError, match=told):
        fit(wrong)


def test_operations_are_counted_without_weights() -> None:
    from raymlops.train.loop.flops import count_flops

    # 2 operations a weight and row; forward, and backward by weights and by inputs, the first
    # layer's inputs excepted.
    first, second, third = 64 * 32, 32 * 32, 32 * 10
    expected = 2 * (2 * first + 3 * second + 3 * third)
    assert count_flops(models.mlp, (torch.zeros(2, 64),)) == expected


class TwoHeads(torch.nn.Module):
    """Rows to logits, and by name to what they are made of."""

    def __init__(self) -> None:
        super().__init__()
        self.body = torch.nn.Linear(64, 32)
        self.head = torch.nn.Linear(32, 10)

    def forward(self, rows: torch.Tensor) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        hidden = self.body(rows)
        return self.head(hidden), {"hidden": hidden, "rows": rows}


class OnTheHost(torch.nn.Linear):
    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        assert rows.device.type == "cpu"
        return super().forward(rows)


def test_operations_of_all_outputs_are_counted() -> None:
    """A model that returned a tuple ended its run, though its loss knew what to do with it."""
    from raymlops.train.loop.flops import count_flops

    expected = 2 * (2 * 64 * 32 + 3 * 32 * 10)
    assert count_flops(TwoHeads, (torch.zeros(2, 64),)) == expected


def test_a_model_whose_operations_cannot_be_counted_trains(
    caplog: pytest.LogCaptureFixture,
) -> None:
    from raymlops.train.loop.flops import count_flops

    assert count_flops(lambda: OnTheHost(64, 10), (torch.zeros(2, 64),)) is None
    assert "no MFU: the model's operations cannot be counted (Assertion" in caplog.text
