from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch

from raymlops.errors import TrainingError
from raymlops.train.plan import ParallelPlan
from raymlops.train.plan.feasibility import Limits
from raymlops.train.spec.factory import Factory
from raymlops.train.spec.recipe import Loss, make_loss
from raymlops.train.torch_backend import TorchBackend
from tests.train.specs import MLP


def test_losses_are_sums_over_all_targets() -> None:
    logits = torch.tensor([[[0.0, 0.0], [0.0, 0.0]]])
    classes = torch.tensor([[0, 1]])
    assert float(make_loss("cross_entropy")(logits, classes)) == pytest.approx(2 * math.log(2))
    assert float(make_loss("mse")(torch.tensor([1.0, 3.0]), torch.tensor([0.0, 1.0]))) == 5.0


def own(kind: str) -> Callable[[torch.Tensor, torch.Tensor], Any]:
    return {
        "sum": lambda outputs, targets: (outputs - targets).sum(),
        "float": lambda outputs, targets: float((outputs - targets).sum()),
        "vector": lambda outputs, targets: outputs - targets,
    }[kind]


def own_loss(kind: str) -> Loss:
    return make_loss(Factory(call="tests.train.spec.test_losses:own", arguments={"kind": kind}))


@pytest.mark.parametrize(
    ("kind", "told"), [("float", "a float"), ("vector", r"a tensor of shape \[3\]")]
)
def test_a_loss_of_ones_own_is_one_number(kind: str, told: str) -> None:
    """What torch said of another did not name the loss."""
    assert own_loss("sum")(torch.ones(3), torch.zeros(3)) == 3.0
    with pytest.raises(TrainingError, match=f"loss tests.*:own returned {told}; it returns the su"):
        own_loss(kind)(torch.ones(3), torch.zeros(3))


def test_mse_of_values_of_two_shapes_is_refused() -> None:
    """Rows were compared with each other, and the training learned their mean."""
    with pytest.raises(
        ValueError, match=r"outputs have shape \[3, 1\], the targets \[3\], .*reshape"
    ):
        make_loss("mse")(torch.zeros(3, 1), torch.ones(3))


def test_cross_entropy_of_what_are_no_classes_is_refused() -> None:
    """torch told of Long and Float, or of a target out of bounds, and no way out."""
    loss = make_loss("cross_entropy")
    with pytest.raises(ValueError, match=r"targets are float32, and .*as by astype\('int64'\)"):
        loss(torch.zeros(3, 2), torch.ones(3))
    told = "targets of a batch are from 1 to 5, and the model tells 2 classes apart, counted from 0"
    with pytest.raises(ValueError, match=told):
        loss(torch.zeros(3, 2), torch.tensor([1, 5, 1], dtype=torch.int8))


def test_cross_entropy_of_logits_whose_classes_are_not_last_is_refused() -> None:
    """Logits [rows, classes, length] of as many classes as the length were read as others."""
    logits, classes = torch.zeros(2, 3, 4), torch.zeros(2, 4, dtype=torch.int64)
    with pytest.raises(ValueError, match=r"outputs have shape \[2, 3, 4\], the targets \[2, 4\]"):
        make_loss("cross_entropy")(logits, classes)
    column = torch.zeros(5, 1, dtype=torch.int64)
    assert make_loss("cross_entropy")(torch.zeros(5, 3), column) == pytest.approx(5 * math.log(3))


@pytest.mark.parametrize("dtype", [torch.int8, torch.int32, torch.int64, torch.bool])
def test_labels_may_be_whole_numbers_of_any_type(dtype: torch.dtype) -> None:
    """Those of a pandas category ended the first step, as did 0 and 1 that are no floats."""
    labels = torch.tensor([0, 1]).to(dtype)
    assert make_loss("cross_entropy")(torch.zeros(2, 3), labels) == pytest.approx(2 * math.log(3))
    assert make_loss("binary_cross_entropy")(torch.zeros(2), labels) == pytest.approx(
        2 * math.log(2)
    )


def test_a_loss_of_torch_that_returns_a_mean_is_refused() -> None:
    """It was divided by the number of targets once more, and plans did not agree."""
    call = "torch.nn:CrossEntropyLoss"
    with pytest.raises(TrainingError, match=r"has reduction mean, .* give it reduction sum"):
        make_loss(Factory(call=call))
    limits = Limits(max_workers=2, batch_size=64)
    with pytest.raises(TrainingError, match="has reduction mean"):
        TorchBackend(replace(MLP, loss=Factory(call=call))).limits(ParallelPlan(), limits)
    logits, classes = torch.zeros(2, 3), torch.tensor([0, 1])
    summed = make_loss(Factory(call=call, arguments={"reduction": "sum"}))
    assert summed(logits, classes) == pytest.approx(2 * math.log(3))


class Margins(torch.nn.Module):
    def __init__(self, trained: bool) -> None:
        super().__init__()
        self.margins = torch.nn.Parameter(torch.ones(3), requires_grad=trained)


def test_a_loss_that_would_have_to_be_trained_is_refused() -> None:
    """Its parameters stayed as they were, without a word."""
    call = f"{__name__}:Margins"
    make_loss(Factory(call=call, arguments={"trained": False}))
    with pytest.raises(TrainingError, match=r"Margins has parameters margins, .* into the model"):
        make_loss(Factory(call=call, arguments={"trained": True}))
