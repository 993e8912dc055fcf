"""A server takes steps as one process does: losses, norms, precision, statistics."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from raymlops.errors import TrainingError
from raymlops.train import CheckpointPolicy, CommunicationSpec, Factory, OptimizerSpec, ParallelPlan
from raymlops.train.plan.seat import Seat
from raymlops.train.spec import StoppingPolicy, TrainSpec
from tests.train import gloo, models
from tests.train.specs import EXPERTS, MLP, SPARE
from tests.train.updaters.training import (
    ALONE,
    FALLING,
    assert_close,
    losses,
    norms,
    train,
    warned,
)


def test_a_step_tells_what_pushing_and_pulling_took() -> None:
    """It was a part of update_s."""
    _, logged = gloo.run(ParallelPlan(data=2, server=2), train, replace(MLP, max_steps=3))[0]
    for told in (values for values in logged if "loss" in values):
        parts = [told[f"{n}_s"] for n in ("data", "compute", "communication", "wait", "update")]
        assert min(parts) > 0
        assert sum(parts) <= told["step_s"]


def lying(seat: Seat, spec: TrainSpec) -> list[bool]:
    """Of every gradient that a step begins with, whether it lies in room that the server lends."""
    from raymlops.train.updaters import served

    found: list[bool] = []

    class Watched(served.Served):
        def _apply(self, step: int) -> None:
            room = self._client.buffers()
            for name, parameter in self._model.named_parameters():
                assert parameter.grad is not None
                found.append(parameter.grad.data_ptr() == room[name].ctypes.data)
            super()._apply(step)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(served, "Served", Watched)
        train(seat, spec)
    return found


@pytest.mark.parametrize("accumulation", [1, 2])
def test_gradients_are_computed_into_the_room_that_the_server_lends(accumulation: int) -> None:
    spec = replace(MLP, accumulation=accumulation, max_steps=3)

    found = gloo.run(ParallelPlan(data=2, server=2), lying, spec)

    num_parameters = len(list(models.mlp().parameters()))
    assert found == [[True] * 3 * num_parameters] * 2


@pytest.mark.parametrize("sync", ["asynchronous", "stale"])
def test_one_worker_that_waits_for_nobody_is_one_process(sync: str) -> None:
    """What each mode does to losses, norms and epochs, where the order of updates is known."""
    spec = replace(FALLING, clip_norm=0.1, checkpoints=CheckpointPolicy())
    alone, expected = gloo.run(ALONE, train, spec)[0]
    weights, logged = gloo.run(ParallelPlan.parse(f"server=2,sync={sync}"), train, spec)[0]
    assert_close(weights, alone)
    for name in ("loss", "gradient_norm", "learning_rate", "train_loss", "validation_loss"):
        curve = [values[name] for values in expected if name in values]
        assert curve
        assert [values[name] for values in logged if name in values] == pytest.approx(
            curve, abs=1e-5
        ), name


def test_what_rank_0_saw_of_a_short_last_batch_is_told_by_its_rows() -> None:
    """Its one row counted for those of both workers: a loss of 2.3 was told as 4.6."""
    spec = replace(MLP, batch_size=83, accumulation=1, epochs=1, max_steps=None)  # 4 x 83 + 1
    still = replace(spec, optimizer=OptimizerSpec(name="sgd", learning_rate=1e-9))

    _, expected = gloo.run(ALONE, train, still)[0]
    _, logged = gloo.run(ParallelPlan.parse("data=2,server=1,sync=asynchronous"), train, still)[0]

    assert losses(logged)[-1] == pytest.approx(losses(expected)[-1], rel=1e-5)
    assert losses(logged) == pytest.approx(losses(expected), rel=0.1)  # of a half of each batch
    (told,), (mean,) = ([v["train_loss"] for v in each if "train_loss" in v]
                        for each in (logged, expected))  # fmt: skip
    assert told == pytest.approx(mean, rel=1e-6)


class Late(models.Spare):
    """Uses its spare head for batches only."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        outputs: torch.Tensor = self.trained(x) + (self.spare(x) if len(x) > 2 else 0)
        return outputs


def test_a_server_that_decays_does_not_train_what_the_first_rows_did_not_reach() -> None:
    """It would go on as it was, without a word."""
    spec = replace(SPARE, model=Factory(call="tests.train.updaters.test_served:Late"))
    told = r"the loss reaches spare\.weight, spare\.bias at step 1, and not on the first rows"
    with pytest.raises(TrainingError, match=told):
        train(Seat(plan=ParallelPlan(server=1)), spec)
    kept = replace(spec, max_steps=1, optimizer=OptimizerSpec(arguments={"weight_decay": 0.0}))
    weights, _ = train(Seat(plan=ParallelPlan(server=1)), kept)
    assert_close(weights, train(Seat(), kept)[0])


def test_the_norm_is_that_of_what_arrives_compressed() -> None:
    """bfloat16 keeps 8 bits of a number, and what it leaves out comes with the next."""
    spec = replace(MLP, optimizer=OptimizerSpec(name="sgd", learning_rate=0.5))
    _, expected = gloo.run(ALONE, train, spec)[0]
    spec = replace(spec, communication=CommunicationSpec(compressor="bfloat16"))
    _, logged = gloo.run(ParallelPlan(data=2, server=2), train, spec)[0]
    assert losses(logged) == pytest.approx(losses(expected), rel=1e-2)
    assert norms(logged) == pytest.approx(norms(expected), rel=1e-2)
    assert norms(logged) != pytest.approx(norms(expected), rel=1e-6)
    assert min(norms(logged)) > 0.1


@pytest.mark.parametrize("clip_norm", [None, 0.1])
@pytest.mark.parametrize(
    ("model", "data"),
    [
        ("tests.train.models:mlp", "tests.train.updaters.test_served:broken_digits"),
        ("tests.train.models:lengths", "tests.train.models:blank_digits"),
    ],
    ids=["loss", "gradient"],
)
def test_workers_agree_on_what_is_no_number(model: str, data: str, clip_norm: float | None) -> None:
    """One worker's row makes its loss or its gradient no number: nobody takes that step."""
    spec = replace(
        MLP,
        model=Factory(call=model),
        data=Factory(call=data),
        clip_norm=clip_norm,
        batch_size=20,
        stopping=StoppingPolicy(on_nan="skip"),
        epochs=1,
    )
    alone, _ = gloo.run(ALONE, train, spec)[0]
    weights, logged = gloo.run(ParallelPlan(data=2, server=2), train, spec)[0]
    assert [values.get("skipped", 0.0) for values in logged if "loss" in values].count(1.0) == 1
    assert_close(weights, alone)


def broken_digits() -> Any:
    train, _ = models.digits(200)
    train.columns[0][0, 0] = np.nan
    return train


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_lower_precision_learns_on_a_server_too(precision: str) -> None:
    spec = replace(MLP, precision=precision, accumulation=1)
    _, expected = gloo.run(ALONE, train, spec)[0]
    _, logged = gloo.run(ParallelPlan(data=2, server=2), train, spec)[0]
    assert losses(logged)[-1] == pytest.approx(losses(expected)[-1], abs=0.02)
    assert norms(logged)[-5:] == pytest.approx(norms(expected)[-5:], rel=0.1)


def test_running_statistics_are_those_of_the_first_worker() -> None:
    """As DDP has them: validation and checkpoints see one set of buffers."""
    spec = replace(MLP, model=Factory(call="tests.train.updaters.training:normed_mlp"))
    together, expected = gloo.run(ParallelPlan(data=2), train, spec)[0]
    weights, logged = gloo.run(ParallelPlan(data=2, server=2), train, spec)[0]
    assert_close(weights, together)
    assert logged[-1].get("validation_loss") == expected[-1].get("validation_loss")


FEW = replace(EXPERTS, batch_size=2, max_steps=6)  # all rows of a step may go to one expert


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        (replace(FEW, optimizer=OptimizerSpec(name="adam")), "experts.0.weight"),
        (replace(FEW, optimizer=OptimizerSpec(name="sgd", learning_rate=0.1)), None),
        (replace(SPARE, optimizer=OptimizerSpec(name="adam"), max_steps=3), None),
    ],
)
def test_what_a_server_moves_without_a_gradient_is_warned_of(
    spec: TrainSpec, expected: str | None
) -> None:
    """Weights of experts that no row of a step went to were others, without a word."""
    (weights, told), _ = gloo.run(ParallelPlan(data=2, server=1), warned, spec)
    if expected is None:
        assert not told
        assert_close(weights, train(Seat(), spec)[0])
    else:
        (once,) = told
        assert expected in once
