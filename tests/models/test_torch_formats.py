"""Torch modules come back whole, are left as they were, and keep nothing of their sample."""

from __future__ import annotations

import warnings
from collections import OrderedDict
from typing import Any

import numpy as np
import pytest
import torch

from raymlops.errors import ModelError
from raymlops.models import (
    format_named,
)
from tests.models.fitted import fitted
from tests.models.saved import everything


def _doubling() -> Any:
    """2 x - 3"""
    layer = torch.nn.Linear(1, 1)
    layer.weight.data.fill_(2.0)
    layer.bias.data.fill_(-3.0)
    return layer


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("weights", [False, True], ids=["relu", "relu and weights"])
def test_a_layer_that_occurs_twice_is_written_twice(nested: bool, weights: bool) -> None:
    # The second was dropped, and parity passed on rows to which it made no difference.
    relu, first = torch.nn.ReLU(), _doubling()
    layers = (first, relu, first if weights else _doubling(), relu)
    model = torch.nn.Sequential(*layers)
    if nested:
        model = torch.nn.Sequential(model)
    kind = format_named("safetensors")
    artifact = kind.save(model, np.array([[4.0], [5.0]], np.float32))
    predict = kind.load(artifact, recorded=lambda _: False)
    rows = np.array([[0.0], [2.0], [3.0], [4.0]], np.float32)
    np.testing.assert_array_equal(predict(rows), [0.0, 0.0, 3.0, 7.0])


def test_layers_with_names_and_norms_without_bias_come_back() -> None:
    # An OrderedDict's names were looked for under numbers, a LayerNorm's bias where there was none.
    layers = {"first": torch.nn.Linear(3, 4), "norm": torch.nn.LayerNorm(4, bias=False)}
    model = torch.nn.Sequential(
        OrderedDict(inner=torch.nn.Sequential(OrderedDict(layers)), last=torch.nn.Linear(4, 1))
    )
    rows = np.arange(12, dtype=np.float32).reshape(4, 3)
    kind = format_named("safetensors")
    predict = kind.load(kind.save(model, rows), recorded=lambda _: False)
    with torch.no_grad():
        wanted = model(torch.from_numpy(rows)).numpy()[:, 0]
    np.testing.assert_array_equal(predict(rows), wanted)


@pytest.mark.parametrize("name", ["safetensors", "torchscript", "torch_export", "onnx"])
def test_a_module_that_is_saved_learns_on(name: str) -> None:
    # It was left in evaluation mode: without dropout from then on, its batch norms frozen.
    model = torch.nn.Sequential(
        torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4).eval(), torch.nn.Dropout(0.5)
    )
    model(torch.ones(2, 3))
    format_named(name).save(model, np.ones((4, 3), np.float32))
    assert [each.training for each in model.modules()] == [True, True, False, True]


class _Branching(torch.nn.Module):
    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        if float(rows.abs().max()) > 10:
            rows = rows.clamp(-10, 10)
        return rows.sum(1)


class _CountingRows(torch.nn.Module):
    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        return rows.reshape(len(rows), -1).sum(1)


class _CountingInSilence(_CountingRows):
    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return super().forward(rows)


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")  # as they pass by in a service
@pytest.mark.parametrize(
    ("module", "message"),
    [
        (_Branching(), r"a trace keeps .*torch\.where.*test_torch_formats\.py:\d+: .*Python float"),
        (_CountingRows(), r"a trace keeps .*x\.shape.*test_torch_formats\.py:\d+: Using len"),
        (_CountingInSilence(), r"cannot hold this _CountingInSilence: .* failed"),
    ],
    ids=lambda each: type(each).__name__,
)
def test_a_trace_that_would_keep_something_of_its_rows_is_refused(
    module: torch.nn.Module, message: str
) -> None:
    # torch only warned: one row more, or one beyond the branch, was answered wrongly or not at all.
    with pytest.raises(ModelError, match=f"^torchscript.*{message}"):
        format_named("torchscript").save(module, fitted("scaled ridge").rows[:50])


@pytest.mark.parametrize("module", [_Branching(), _CountingRows()], ids=["branch", "rows"])
def test_torch_export_refuses_what_depends_on_its_rows_itself(module: torch.nn.Module) -> None:
    with pytest.raises(ModelError, match="torch_export cannot hold this _"):
        format_named("torch_export").save(module, fitted("scaled ridge").rows[:50])


def test_shapes_that_follow_the_rows_are_traced() -> None:
    class Following(torch.nn.Module):
        def forward(self, rows: torch.Tensor) -> torch.Tensor:
            return rows.reshape(rows.shape[0], -1).sum(1) + torch.zeros(rows.shape[0])

    rows = fitted("scaled ridge").rows
    artifact = format_named("torchscript").save(Following(), rows[:50])
    predict = format_named("torchscript").load(artifact, recorded=everything)
    for count in (1, 7):
        np.testing.assert_allclose(predict(rows[:count]), rows[:count].sum(1), atol=1e-5)
