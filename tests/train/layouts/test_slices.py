"""Which layers are sliced, and which cannot be: a slice replaces its parameter in one module."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn.utils.parametrizations import weight_norm

from raymlops.errors import TrainingError
from raymlops.train import ParallelPlan
from raymlops.train.layouts.limits import within
from raymlops.train.layouts.slices import find_slices
from raymlops.train.plan.feasibility import Limits, problems
from raymlops.train.spec import TensorSpec, TrainSpec
from raymlops.train.spec.factory import Factory
from tests.train.models import Transformer, mlp
from tests.train.specs import BOTH, LOSS, TEXT

PLAN = ParallelPlan(tensor=2)


class TiedHead(Transformer):
    def __init__(self) -> None:
        super().__init__(16, 4, 2)
        self.head.weight = self.tokens.weight


class TiedNorms(Transformer):
    def __init__(self) -> None:
        super().__init__(16, 4, 2)
        self.norm.weight = self.blocks[0].norm1.weight


class TiedBlocks(Transformer):
    """Projections of the blocks are one matrix, and so are their feed-forward layers."""

    def __init__(self) -> None:
        super().__init__(16, 4, 2)
        first, second = self.blocks
        second.attention.q_proj.weight = first.attention.q_proj.weight
        second.mlp[0].weight = first.mlp[0].weight


def normed_mlp() -> nn.Module:
    model = mlp()
    weight_norm(model[0])
    return model


def refusals(spec: TrainSpec, model: str) -> str:
    factory = Factory(call=f"tests.train.layouts.test_slices:{model}")
    limits = within(replace(spec, model=factory), Limits(max_workers=8, batch_size=64))
    return "; ".join(problems(PLAN, limits))


def test_a_setting_that_would_untie_weights_is_refused() -> None:
    """Two weights that were one went their own ways."""
    told = "cannot be sliced: its weight is that of another module, too; set it to false"
    for spec in (LOSS, BOTH):
        assert f"tensor is 2, but tensor.loss slices head, which {told}" == refusals(
            spec, "TiedHead"
        )
    assert f"tensor.sequence slices blocks.0.norm1, which {told}" in refusals(BOTH, "TiedNorms")
    assert refusals(TEXT, "TiedHead") == refusals(LOSS, "TiedNorms") == ""


def test_a_model_that_is_no_transformer_is_refused_before_a_run() -> None:
    assert "tensor.loss need a transformer, Sequential lacks" in refusals(BOTH, "normed_mlp")


def test_tied_layers_are_left_whole_where_slices_are_found() -> None:
    model = TiedBlocks()
    assert find_slices(model, TensorSpec()).layers == {}
    model.blocks[1].mlp[0].weight = nn.Parameter(torch.zeros(64, 16))
    assert set(find_slices(model, TensorSpec()).layers) == {
        "blocks.0.mlp.0", "blocks.0.mlp.2", "blocks.1.mlp.0", "blocks.1.mlp.2",
    }  # fmt: skip


def test_a_module_that_is_used_twice_is_sliced_once() -> None:
    block = nn.Sequential(nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 32))
    found = find_slices(nn.ModuleList([block, block]), TensorSpec()).layers
    assert found == {"0.0": "column", "0.2": "row"}


def test_layers_that_compute_their_weight_are_left_whole() -> None:
    """torch took the names of what it is computed from for names of parameters of the layer."""
    assert find_slices(normed_mlp(), TensorSpec()).layers == {}
    assert "nothing to slice was found" in refusals(TEXT, "normed_mlp")


def test_names_of_layers_that_cannot_be_sliced_are_refused() -> None:
    spec = TensorSpec(slices={"blocks.*.mlp.0": "column", "blocks.*.mlp.2": "row"})
    with pytest.raises(TrainingError, match=r"names blocks\.0\.mlp\.0, which .* another module"):
        find_slices(TiedBlocks(), spec)
    made_of = r"it is made of parametrizations\.weight\.original0"
    with pytest.raises(TrainingError, match=f"names 0, which cannot be sliced: {made_of}"):
        find_slices(normed_mlp(), TensorSpec(slices={"0": "column", "2": "row"}))
