"""Trainings on a parameter server: modes, sparse rows, and what goes on under another plan."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from raymlops.data.loading import ArraySource
from raymlops.errors import TrainingError
from raymlops.train import (
    CheckpointPolicy,
    CommunicationSpec,
    Factory,
    OptimizerSpec,
    ParallelPlan,
    ScheduleSpec,
)
from raymlops.train.plan.seat import Seat
from raymlops.train.spec import StoppingPolicy, TrainSpec
from tests.endurance import endurance
from tests.train import gloo, models
from tests.train.server.threads import start_threads
from tests.train.specs import MLP, SPARE

ALONE = ParallelPlan()
DIGITS = TrainSpec(
    model=Factory(call="tests.train.models:mlp", arguments={"width": 64}),
    data=Factory(call="tests.train.updaters.test_served:mixed_digits"),
    batch_size=32,
    epochs=20,
    optimizer=OptimizerSpec(name="sgd", learning_rate=0.3),
    schedule=ScheduleSpec(name="linear"),
)
FLIGHTS = TrainSpec(
    model=Factory(call="tests.train.models:flights_network"),
    data=Factory(call="tests.train.models:flights", arguments={"rows": 330}),
    loss="binary_cross_entropy",
    optimizer=OptimizerSpec(name="adagrad", learning_rate=0.1),
    batch_size=50,  # 6 full batches, then 30 rows
    epochs=3,
    max_steps=20,
)
FALLING = replace(
    MLP,
    clip_norm=None,
    optimizer=OptimizerSpec(learning_rate=1e-2),
    schedule=ScheduleSpec(name="tests.train.updaters.test_served:falling"),
    checkpoints=CheckpointPolicy(every_steps=1, keep=1),
)


def falling() -> Any:
    """A schedule that does not depend on how long a training is."""
    return lambda step: 1 / (1 + step)


def train(
    seat: Seat, spec: TrainSpec, folder: Path | None = None
) -> tuple[dict[str, torch.Tensor], list[Mapping[str, float]]]:
    """The weights of the whole model on rank 0, and what it logged."""
    from raymlops.train.checkpoints.checkpoints import Checkpoints
    from raymlops.train.loop.loop import Loop

    logged: list[Mapping[str, float]] = []

    def log(values: Mapping[str, float], step: int) -> None:
        logged.append(values)

    checkpoints = None if folder is None else Checkpoints(folder, spec.checkpoints, seat)
    loop = Loop(spec, seat, checkpoints=checkpoints, log=log, start_server=start_threads)
    loop.run()
    return loop.weights(), logged


def losses(logged: list[Mapping[str, float]]) -> list[float]:
    return [values["loss"] for values in logged if "loss" in values]


def norms(logged: list[Mapping[str, float]]) -> list[float]:
    return [values["gradient_norm"] for values in logged if "gradient_norm" in values]


def assert_close(found: Mapping[str, torch.Tensor], expected: Mapping[str, torch.Tensor]) -> None:
    assert found.keys() == expected.keys()
    for name, weight in expected.items():
        assert torch.allclose(found[name], weight, rtol=0, atol=1e-5), name


def mixed_digits() -> tuple[ArraySource, ArraySource]:
    """Digits of all writers to train on, and 500 to validate on."""
    every, _ = models.digits(1797)
    order = np.random.default_rng(0).permutation(1797)
    return ArraySource(every.take(order[500:])), ArraySource(every.take(order[:500]))


def accuracy(weights: Mapping[str, torch.Tensor]) -> float:
    """On the digits held out, in percent."""
    model = models.mlp(64)
    model.load_state_dict(dict(weights))
    _, held_out = mixed_digits()
    images, labels = map(torch.from_numpy, held_out.take(np.arange(500)))
    return 100 * float((model(images).argmax(1) == labels).float().mean())


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


@pytest.mark.parametrize(
    "plan", ["server=2,sync=asynchronous", endurance("server=2,sync=stale,staleness=2")]
)
def test_workers_that_run_apart_learn_what_one_process_learns(plan: str) -> None:
    """As many updates on as many rows: each push of a third of a batch is one."""
    alone, _ = gloo.run(ALONE, train, DIGITS)[0]
    spec = replace(DIGITS, batch_size=3 * DIGITS.batch_size)
    weights, logged = gloo.run(ParallelPlan.parse(f"data=3,{plan}"), train, spec)[0]
    assert accuracy(alone) > 95
    # Who pushes first is left to chance: runs differ by a point on so few digits.
    assert accuracy(weights) >= accuracy(alone) - 1.5
    assert len(losses(logged)) == 14 * 20


@pytest.mark.parametrize(
    ("communication", "share"),
    [
        endurance(CommunicationSpec(compressor="int8"), 0.26),
        endurance(CommunicationSpec(compressor="top_k", arguments={"ratio": 0.05}), 0.1),
    ],
)
def test_compressed_gradients_learn_what_whole_ones_learn(
    communication: CommunicationSpec, share: float
) -> None:
    alone, expected = gloo.run(ALONE, train, DIGITS)[0]
    spec = replace(DIGITS, communication=communication)
    weights, logged = gloo.run(ParallelPlan(data=2, server=2), train, spec)[0]
    assert accuracy(weights) >= accuracy(alone) - 0.5
    assert losses(logged)[-1] != losses(expected)[-1]
    whole_mb = sum(weight.nbytes for weight in weights.values()) / 2**20
    assert logged[0]["sent_mb"] == pytest.approx(share * whole_mb, rel=0.05)


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


@pytest.mark.parametrize(
    ("optimizer", "plan", "clip_norm"),
    [
        (OptimizerSpec(name="adagrad", learning_rate=0.1), "data=2,server=2", None),
        (OptimizerSpec(name="sgd", learning_rate=0.5), "data=2,server=2", 0.05),
        (OptimizerSpec(name="sgd", learning_rate=0.5), "data=4,server=3", None),
    ],
)
def test_sparse_rows_go_by_key_and_equal_one_process(
    optimizer: OptimizerSpec, plan: str, clip_norm: float | None
) -> None:
    spec = replace(FLIGHTS, optimizer=optimizer, clip_norm=clip_norm)
    alone, expected = gloo.run(ALONE, train, spec)[0]
    weights, logged = gloo.run(ParallelPlan.parse(plan), train, spec)[0]
    assert_close(weights, alone)
    assert losses(logged) == pytest.approx(losses(expected), abs=1e-5)
    assert norms(logged) == pytest.approx(norms(expected), abs=1e-5)
    assert losses(logged)[-1] < losses(logged)[0]
    if clip_norm is not None:
        assert min(norms(logged)) > clip_norm


def test_rows_are_pulled_before_a_compiled_lookup() -> None:
    """The call of the server was compiled with the model, and failed."""
    spec = replace(FLIGHTS, max_steps=8)
    compiled = replace(spec, compile="aot_eager")
    weights, _ = gloo.run(ParallelPlan.parse("data=2,server=2"), train, compiled)[0]
    assert_close(weights, gloo.run(ALONE, train, spec)[0][0])


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


def test_a_training_goes_on_under_a_server_and_without_it(tmp_path: Path) -> None:
    alone, expected = gloo.run(ALONE, train, FALLING)[0]
    curve = []
    for plan, steps in (("data=2", 6), ("data=2,server=2", 13), ("shard=2", 20)):
        spec = replace(FALLING, max_steps=steps)
        weights, logged = gloo.run(ParallelPlan.parse(plan), train, spec, tmp_path)[0]
        curve += losses(logged)
    assert_close(weights, alone)
    assert curve == pytest.approx(losses(expected), abs=1e-5)


def test_what_was_not_sent_is_in_checkpoints(tmp_path: Path) -> None:
    """Of parameters, not of shards: another number of them goes on from it."""
    plan = ParallelPlan(data=2, server=2)
    communication = CommunicationSpec(compressor="top_k", arguments={"ratio": 0.1})
    spec = replace(FALLING, communication=communication)
    whole, expected = gloo.run(plan, train, spec, tmp_path / "whole")[0]
    gloo.run(plan, train, replace(spec, max_steps=11), tmp_path / "cut")
    weights, logged = gloo.run(plan, train, spec, tmp_path / "cut")[0]
    assert all(torch.equal(weights[name], weight) for name, weight in whole.items())
    assert losses(logged) == losses(expected)[11:]
    _, logged = gloo.run(
        ParallelPlan(data=2, server=3),
        train,
        replace(spec, max_steps=22, epochs=9),
        tmp_path / "cut",
    )[0]
    assert losses(logged)[-1] < losses(expected)[0]


def test_rows_of_tables_are_in_checkpoints(tmp_path: Path) -> None:
    spec = replace(FLIGHTS, checkpoints=CheckpointPolicy(every_steps=7))
    alone, _ = gloo.run(ALONE, train, spec)[0]
    plan = ParallelPlan(data=2, server=2)
    gloo.run(plan, train, replace(spec, max_steps=9), tmp_path)
    weights, logged = gloo.run(plan, train, spec, tmp_path)[0]
    assert len(losses(logged)) == 20 - 7
    assert_close(weights, alone)


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
    spec = replace(MLP, model=Factory(call="tests.train.updaters.test_served:normed_mlp"))
    together, expected = gloo.run(ParallelPlan(data=2), train, spec)[0]
    weights, logged = gloo.run(ParallelPlan(data=2, server=2), train, spec)[0]
    assert_close(weights, together)
    assert logged[-1].get("validation_loss") == expected[-1].get("validation_loss")


def normed_mlp() -> torch.nn.Module:
    return torch.nn.Sequential(
        # A bias here is taken off again: its gradient is rounding alone, which Adam makes steps of.
        torch.nn.Linear(64, 32, bias=False),
        torch.nn.BatchNorm1d(32),
        torch.nn.ReLU(),
        torch.nn.Linear(32, 10),
    )
