"""A training that was cut goes on as if it had not been, bit by bit."""

from __future__ import annotations

import json
import random
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from raymlops.train import ParallelPlan, generators
from raymlops.train.spec import CheckpointPolicy, OptimizerSpec, PipelineSpec
from raymlops.train.spec.factory import Factory
from tests.endurance import endurance
from tests.train import gloo, models
from tests.train.cutting import (
    DROPPING,
    EVERY_5,
    RESTORED_ALONE,
    merged,
    same_bits,
    train,
    train_alone,
)
from tests.train.specs import MLP


class Loud(torch.nn.Module):
    """Gradients so large that scaled for fp16 the first ones overflow."""

    def __init__(self) -> None:
        super().__init__()
        self.mlp = models.mlp()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.mlp(100 * x)


class Unreached(torch.nn.Module):
    """With a layer that nothing flows through, among blocks."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = torch.nn.ModuleList([torch.nn.Linear(64, 64), torch.nn.Linear(64, 10)])
        self.spare = torch.nn.Linear(64, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for block in self.blocks:
            x = block(x)
        return x


class Centred(torch.nn.Module):
    """Rows are seen from their running mean, which each worker takes of its own."""

    mean: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(64))
        self.mlp = models.mlp()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.training:
            self.mean.lerp_(x.mean(0), 0.1)
        return self.mlp(x - self.mean)


class Noisy(torch.nn.Module):
    """Draws what is not torch's, as a model made by numpy and rotations of images by Python do."""

    def __init__(self) -> None:
        super().__init__()
        self.mlp = models.mlp()
        first = np.random.normal(size=64).astype(np.float32)  # noqa: NPY002
        self.scale = torch.nn.Parameter(torch.from_numpy(first))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.training:
            noise = random.gauss(0, 0.1) + np.random.normal(size=64)  # noqa: NPY002
            x = x + torch.from_numpy(noise.astype(np.float32))
        outputs: torch.Tensor = self.mlp(self.scale * x)
        return outputs


NOISY = replace(DROPPING, model=Factory(call="tests.train.checkpoints.test_going_on:Noisy"))


@pytest.mark.parametrize(
    ("plan", "asynchronous"),
    [
        ("data=2", True),
        ("data=3", True),  # gradients of three were added up in another order after a kill
        ("pipeline=2,microbatches=2", False),
        ("data=2,server=2", True),
        endurance("data=1", True),
        endurance("data=1", False),
        endurance("data=2", False),
        endurance("pipeline=2,microbatches=2", True),
        endurance("data=2,server=2", False),
    ],
)
def test_a_training_that_was_cut_ends_as_one_that_was_not(
    plan: str, asynchronous: bool, tmp_path: Path
) -> None:
    # Step 12 lies in the second epoch, whose order and dropout go on where they were.
    layout = ParallelPlan.parse(plan)
    spec = replace(DROPPING, checkpoints=replace(EVERY_5, asynchronous=asynchronous))
    if layout.pipeline > 1:  # trainings that are compared are cut alike
        spec = replace(spec, pipeline=PipelineSpec(starts=("0", "1.2")))
    whole = gloo.run(layout, train, spec, tmp_path / "whole")
    cut = replace(spec, max_steps=12)
    before = gloo.run(layout, train, cut, tmp_path / "cut")
    after = gloo.run(layout, train, spec, tmp_path / "cut")

    assert before[0]["progress"].step == 12
    assert sorted(after[0]["losses"]) == list(range(11, 21))  # from the checkpoint of step 10
    assert same_bits(merged(after), merged(whole))
    for rank in range(layout.num_workers):
        assert torch.equal(after[rank]["generator"], whole[rank]["generator"])
    expected = whole[0]["losses"]
    assert all(after[0]["losses"][step] == expected[step] for step in range(11, 21))
    assert after[0]["progress"] == whole[0]["progress"]


@pytest.mark.parametrize(
    ("plan", "model", "changes", "num_stateless"),
    [
        ("data=2", "Loud", {"precision": "fp16"}, (6, 0)),
        ("data=1", "Unreached", {}, (2, 2)),
        ("shard=2", "Unreached", {"activation_checkpointing": True}, (2, 2)),
        endurance("shard=2", "Loud", {"precision": "fp16"}, (6, 0)),
    ],
)
def test_parameters_that_took_no_step_yet_go_on_without_a_state(
    plan: str, model: str, changes: dict[str, Any], num_stateless: tuple[int, int], tmp_path: Path
) -> None:
    """A checkpoint lacks what torch makes to load one into, and could not be loaded."""
    factory = Factory(call=f"tests.train.checkpoints.test_going_on:{model}")
    policy = CheckpointPolicy(every_steps=1)
    spec = replace(MLP, model=factory, max_steps=6, checkpoints=policy, **changes)
    layout = ParallelPlan.parse(plan)
    whole = gloo.run(layout, train, spec, tmp_path / "whole")
    before = gloo.run(layout, train, replace(spec, max_steps=1), tmp_path / "cut")
    after = gloo.run(layout, train, spec, tmp_path / "cut")
    found = tuple(len(ranks[0]["model"]) - len(ranks[0]["state"]) for ranks in (before, after))
    assert found == num_stateless
    assert sorted(after[0]["losses"]) == [2, 3, 4, 5, 6]
    assert same_bits(merged(after), merged(whole))
    assert after[0]["progress"] == whole[0]["progress"]


def decayed_and_not(parameters: Iterable[torch.nn.Parameter], lr: float) -> torch.optim.Optimizer:
    """Weights decay, biases do not; a group may have nothing in it."""
    given = list(parameters)
    return torch.optim.AdamW(
        [
            {"params": [each for each in given if each.ndim > 1], "weight_decay": 0.1},
            {"params": [each for each in given if each.ndim == 1], "weight_decay": 0.0},
        ],
        lr=lr,
    )


class Counting(torch.nn.Module):
    """Saves more than tensors: how often it ran, and the mean row it has seen."""

    def __init__(self) -> None:
        super().__init__()
        self.mlp = models.mlp()
        self.num_passes, self.mean = 0, torch.zeros(64)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.training:
            self.num_passes += 1
            self.mean = self.mean.lerp(x.mean(0), 0.1)
        return self.mlp(x + 0.01 * self.num_passes)

    def get_extra_state(self) -> dict[str, Any]:
        return {"num_passes": self.num_passes, "mean": self.mean}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        self.num_passes, self.mean = state["num_passes"], state["mean"]


class Looked(torch.nn.Module):
    """The sum of what sparse tables say of each pixel's sixteen values."""

    def __init__(self) -> None:
        super().__init__()
        self.table = torch.nn.Embedding(17 * 64, 10, sparse=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.table((x * 16).long() + 17 * torch.arange(64)).sum(1)


def without_biases() -> torch.nn.Module:
    return torch.nn.Sequential(
        torch.nn.Linear(64, 8, bias=False), torch.nn.ReLU(), torch.nn.Linear(8, 10, bias=False)
    )


@RESTORED_ALONE
@pytest.mark.parametrize(
    ("model", "optimizer", "arguments"),
    [
        ("without_biases", "tests.train.checkpoints.test_going_on:decayed_and_not", {}),
        ("Counting", "adamw", {}),
        ("Looked", "torch.optim:SparseAdam", {}),
        ("Looked", "sgd", {"momentum": 0.9}),
        ("Looked", "sgd", {"momentum": 0.9, "nesterov": True}),
    ],
)
def test_models_and_optimizers_of_ones_own_go_on(
    model: str, optimizer: str, arguments: dict[str, Any], tmp_path: Path
) -> None:
    """What had been saved could not be loaded, and sparse momentum could not be saved."""
    spec = replace(
        MLP,
        model=Factory(call=f"tests.train.checkpoints.test_going_on:{model}"),
        optimizer=OptimizerSpec(name=optimizer, learning_rate=0.01, arguments=arguments),
        checkpoints=CheckpointPolicy(every_steps=1),
        max_steps=4,
        clip_norm=None,
    )
    whole, expected = train_alone(spec, tmp_path / "whole")
    train_alone(replace(spec, max_steps=2), tmp_path / "cut")
    progress, weights = train_alone(spec, tmp_path / "cut")
    assert progress == whole
    torch.testing.assert_close(weights, expected, rtol=0, atol=0)


@pytest.mark.parametrize("plan", ["data=1", "data=2", endurance("shard=2")])
def test_what_python_and_numpy_draw_goes_on_where_it_was(plan: str, tmp_path: Path) -> None:
    """First weights and noise were others in every process, and after a kill."""
    layout, cut = ParallelPlan.parse(plan), replace(NOISY, max_steps=12)
    spec = NOISY
    whole = gloo.run(layout, train, spec, tmp_path / "whole")
    gloo.run(layout, train, cut, tmp_path / "cut")
    after = gloo.run(layout, train, spec, tmp_path / "cut")
    assert sorted(after[0]["losses"]) == list(range(11, 21))
    assert same_bits(merged(after), merged(whole))
    assert all(after[0]["losses"][step] == whole[0]["losses"][step] for step in range(11, 21))


@RESTORED_ALONE
def test_a_checkpoint_without_states_of_python_and_numpy_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as before, generators.kept():
        before.setattr(generators, "states", dict)
        before.setattr(generators, "set_states", lambda found: None)
        train_alone(replace(MLP, checkpoints=EVERY_5, max_steps=10), tmp_path)
    with generators.kept():
        progress, _ = train_alone(replace(MLP, checkpoints=EVERY_5), tmp_path)
    assert progress.step == 20


@pytest.mark.parametrize("plan", ["shard=2", "data=2,server=1", endurance("data=2")])
def test_buffers_of_the_first_worker_are_saved_and_given_to_all(plan: str, tmp_path: Path) -> None:
    """A checkpoint held some of each worker, and of a server's workers one alone had them back."""
    layout = ParallelPlan.parse(plan)
    factory = Factory(call="tests.train.checkpoints.test_going_on:Centred")
    spec = replace(MLP, model=factory, checkpoints=EVERY_5, max_steps=10)
    whole = gloo.run(layout, train, spec, tmp_path / "whole")
    gloo.run(layout, train, replace(spec, max_steps=5), tmp_path / "cut")
    after = gloo.run(layout, train, spec, tmp_path / "cut")
    assert sorted(after[0]["losses"]) == [6, 7, 8, 9, 10]
    for rank in range(2):
        assert same_bits(after[rank], whole[rank])
    held = [rank["model"]["mean"] for rank in after if rank["model"]]
    assert all(torch.equal(mean, held[0]) for mean in held)


def test_a_training_that_goes_on_is_cut_where_it_was(tmp_path: Path) -> None:
    plan = ParallelPlan(pipeline=2, microbatches=2)
    spec = replace(DROPPING, max_steps=5)
    gloo.run(plan, train, spec, tmp_path)
    stages = tmp_path / "stages.json"
    kept = json.loads(stages.read_text())
    assert (kept["plan"], kept["starts"][0]) == (str(plan), "0")
    for start in ("1.0", "1.4"):
        stages.write_text(json.dumps({**kept, "starts": ["0", start]}))
        _, last = gloo.run(plan, train, spec, tmp_path)
        assert min(last["model"]) == f"{start}.bias"
    gloo.run(replace(plan, microbatches=3), train, spec, tmp_path)
    assert json.loads(stages.read_text())["plan"] == "pipeline=2,schedule=1f1b,microbatches=3"
