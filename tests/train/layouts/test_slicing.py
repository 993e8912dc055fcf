"""Layers replaced by slices: the numbers stay, or the model is refused before the first step."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

from raymlops.errors import TrainingError
from raymlops.train import ParallelPlan
from raymlops.train.layouts.slicing import slice_layers
from raymlops.train.plan.seat import Seat
from raymlops.train.spec import OptimizerSpec, Slice, TensorSpec
from raymlops.train.spec.factory import Factory
from tests.endurance import endurance
from tests.train import gloo
from tests.train.layouts.training import reference, train
from tests.train.models import Transformer, mlp
from tests.train.specs import MLP, TEXT


class Short(Transformer):
    """Takes sequences of 15 tokens."""

    def __init__(self) -> None:
        super().__init__(16, 4, 2)
        self.positions = nn.Parameter(torch.zeros(15, 16))


def test_sequences_that_workers_cannot_share_out_are_refused() -> None:
    """Messages of two sizes killed a worker, which had no time to say so."""
    no_mesh: Any = "which nothing is sent over"
    seat = Seat(plan=ParallelPlan(tensor=2), mesh=no_mesh)
    rows = torch.zeros(2, 15, dtype=torch.int64)
    with pytest.raises(TrainingError, match="tensor is 2, which does not divide the length 15 of"):
        slice_layers(Short(), TensorSpec(sequence=True), seat, (rows,))


@pytest.mark.parametrize(
    ("slices", "reason"),
    [
        ({"0": "column", "2": "row"}, r"gives outputs up to 0\.\d+ apart on the same rows"),
        ({"0": "column"}, r"cannot run \(mat1 and mat2 shapes cannot be multiplied"),
        ({"2": "column"}, r"gives outputs of shape \(2, 5\) instead of \(2, 10\)"),
    ],
)
def test_a_model_that_slices_change_is_refused_before_the_first_step(
    slices: Mapping[str, Slice], reason: str
) -> None:
    # A softmax over all outputs of the first layer: no slice of them knows the others' sum.
    normed = replace(
        MLP,
        model=Factory(call="tests.train.models:softmax_mlp"),
        tensor=TensorSpec(slices=slices),
    )
    with pytest.raises(RuntimeError, match=f"TrainingError: sliced at .* the model {reason}"):
        gloo.run(ParallelPlan(tensor=2), train, normed)


class Half(nn.Module):
    """Holds and computes what it learns in bfloat16, which rounds sums in another order apart."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = mlp(256).to(torch.bfloat16)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        outputs: torch.Tensor = self.inner(8 * x.to(torch.bfloat16)).float()
        return outputs


def test_a_model_of_halves_is_sliced() -> None:
    spec = replace(
        MLP,
        model=Factory(call="tests.train.layouts.test_slicing:Half"),
        optimizer=OptimizerSpec(name="sgd", learning_rate=0.1),
        max_steps=5,
    )
    expected, _, _ = reference(replace(spec, tensor=TensorSpec()))
    logged, _, _ = gloo.run(ParallelPlan(tensor=2), train, spec)[0]
    curve = [values["loss"] for values in expected if "loss" in values]
    assert [v["loss"] for v in logged if "loss" in v] == pytest.approx(curve, abs=0.01)


class Counting(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("n", torch.zeros(()))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.n = self.n + 1
        return x * self.n


def test_checking_slices_leaves_buffers_alone() -> None:
    from raymlops.train.layouts.slicing import _outputs

    model, rows = Counting(), torch.ones(2, 3)
    (first,), (second,) = _outputs(model, (rows,)), _outputs(model, (rows,))
    assert torch.equal(first, second)
    assert float(model.n) == 0.0  # both passes counted, before the first step


class TwoHeads(torch.nn.Module):
    """Logits under one name, their mean under another."""

    def __init__(self) -> None:
        super().__init__()
        self.mlp = mlp()

    def forward(self, x: torch.Tensor) -> dict[str, Any]:
        logits = self.mlp(x)
        return {"logits": logits, "mean": [logits.mean(1)], "temperature": 1.0}


def of_two_heads() -> Any:
    def loss(outputs: dict[str, Any], targets: torch.Tensor) -> torch.Tensor:
        (mean,) = outputs["mean"]
        cross_entropy = torch.nn.functional.cross_entropy
        return cross_entropy(outputs["logits"], targets, reduction="sum") + mean.square().sum()

    return loss


def test_a_sliced_model_may_return_several_tensors() -> None:
    """It was held against the whole one as if it returned one."""
    here = "tests.train.layouts.test_slicing"
    model, loss = Factory(call=f"{here}:TwoHeads"), Factory(call=f"{here}:of_two_heads")
    spec = replace(MLP, model=model, loss=loss, max_steps=3)
    _, weights, _ = reference(spec)
    _, together, _ = gloo.run(ParallelPlan(tensor=2), train, spec)[0]
    for name, weight in weights.items():
        assert torch.allclose(together[name], weight, rtol=0, atol=1e-5), name


class AddsInPlace(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.mlp = torch.nn.Sequential(
            torch.nn.Linear(64, 32), torch.nn.ReLU(), torch.nn.Linear(32, 10)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        outputs: torch.Tensor = self.mlp(x)
        outputs += 1.0
        return outputs


def test_a_model_that_changes_what_slices_give_is_refused_before_the_first_step() -> None:
    """Without gradients, as the slices were tried, torch allows it."""
    spec = replace(MLP, model=Factory(call=f"{__name__}:AddsInPlace"))
    with pytest.raises(RuntimeError, match=r"TrainingError: sliced at .* cannot run .*inplace"):
        gloo.run(ParallelPlan(tensor=2), train, spec)


@pytest.mark.parametrize("how", ["foreach", endurance("fused")])
def test_sliced_and_whole_parameters_are_stepped_many_at_once(how: str) -> None:
    """Torch steps many of one kind at once; it was given both together, and failed."""
    spec = replace(MLP, optimizer=OptimizerSpec(arguments={how: True}), max_steps=3)
    _, weights, _ = reference(spec)
    _, together, _ = gloo.run(ParallelPlan(tensor=2), train, spec)[0]
    for name, weight in weights.items():
        assert torch.allclose(together[name], weight, rtol=0, atol=1e-5), name


def resilient(parameters: Iterable[torch.nn.Parameter], lr: float) -> torch.optim.Optimizer:
    return torch.optim.Rprop(parameters, lr=lr)


def test_an_optimizer_that_cannot_step_slices_is_named() -> None:
    """What torch said of it named neither the optimizer nor a way out."""
    spec = replace(MLP, optimizer=OptimizerSpec(name=f"{__name__}:resilient"))
    with pytest.raises(RuntimeError, match=r"slicing:resilient cannot step slices of parameters"):
        gloo.run(ParallelPlan(shard=2), train, spec)


def test_slices_can_be_given_by_name() -> None:
    spec = replace(TEXT, max_steps=3)
    given: Mapping[str, Slice] = {"blocks.*.mlp.0": "column", "blocks.*.mlp.2": "row"}
    changed = replace(spec, tensor=TensorSpec(slices=given))
    _, weights, _ = reference(spec)
    _, together, _ = gloo.run(ParallelPlan(tensor=2), train, changed)[0]
    for name, weight in weights.items():
        assert torch.allclose(together[name], weight, rtol=0, atol=1e-5), name


def test_names_that_are_no_linear_layer_are_refused() -> None:
    from raymlops.train.layouts.slices import find_slices
    from tests.train.models import transformer

    with pytest.raises(TrainingError, match=r"names 'block\.mlp', which is none of the linear"):
        find_slices(transformer(), TensorSpec(slices={"block.mlp": "row"}))
