"""Batch norms that normalise over the rows of all workers."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from raymlops.train import ParallelPlan
from raymlops.train.layouts.base import Rows
from raymlops.train.layouts.norms import SharedNorms, share_norms
from raymlops.train.plan.seat import Seat
from tests.endurance import endurance
from tests.train import cutting, gloo
from tests.train.cutting import ALONE, EVERY_5
from tests.train.layouts.training import reference, train
from tests.train.specs import MLP, NORMED_CNN

FAR = 100.0  # deviations from zero, where squares in float32 would cancel


def batch(dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    """Seven rows [rows, 3, 2], and gradients of what they are normalised to."""
    generator = torch.Generator().manual_seed(5)
    x, gradient = torch.randn(2, 7, 3, 2, generator=generator)
    return (x + torch.tensor([0.0, 3.0, FAR])[:, None]).to(dtype), gradient.to(dtype)


def layer() -> nn.BatchNorm1d:
    norm = nn.BatchNorm1d(3)
    with torch.no_grad():
        norm.weight.copy_(torch.tensor([0.5, -1.0, 2.0]))
        norm.bias.copy_(torch.tensor([1.0, 0.0, -1.0]))
    return norm


def normalised(seat: Seat, dtype: torch.dtype) -> Mapping[str, torch.Tensor]:
    """What worker 0 finds of five rows, worker 2 of two; for worker 1 a row stands in."""
    norm, (x, gradient) = layer(), batch(dtype)
    if dtype == torch.float64:
        norm.double()
    shared = SharedNorms(seat)
    shared.take(norm)
    mine = (slice(0, 5), slice(0, 1), slice(5, 7))[seat.rank]
    counts = seat.rank != 1
    rows = x[mine].clone().requires_grad_()
    with shared.over(counts=counts):
        outputs = norm(rows)
        outputs.backward(gradient[mine] * counts)
    assert all(p.grad is not None for p in norm.parameters())
    return {
        "outputs": outputs.detach(),
        "rows": rows.grad,
        "weight": norm.weight.grad,
        "bias": norm.bias.grad,
        **dict(norm.named_buffers()),
    }  # type: ignore[dict-item]


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float64, 1e-6), (torch.float32, 1e-4), (torch.bfloat16, 2e-2)]
)
def test_workers_normalise_as_one(dtype: torch.dtype, tolerance: float) -> None:
    x, gradient = (each.double() for each in batch(dtype))
    norm = layer().double()
    expected = norm(x.requires_grad_())
    expected.backward(gradient)
    first, second, third = gloo.run(ParallelPlan(data=3), normalised, dtype)

    def is_close(found: torch.Tensor, exact: torch.Tensor | None) -> bool:
        assert exact is not None
        return torch.allclose(found.double(), exact.detach().double(), tolerance, tolerance)

    assert is_close(torch.cat([first["outputs"], third["outputs"]]), expected)
    assert is_close(torch.cat([first["rows"], third["rows"]]), x.grad)
    assert is_close(first["weight"] + third["weight"], norm.weight.grad)
    assert is_close(first["bias"] + third["bias"], norm.bias.grad)
    for name, buffer in norm.named_buffers():
        assert is_close(first[name], buffer), name
        assert torch.equal(first[name], second[name]), name
        assert torch.equal(first[name], third[name]), name
    assert first["outputs"].dtype == first["rows"].dtype == dtype
    for name in ("rows", "weight", "bias"):  # of a row that stands in
        assert not second[name].any(), name


@pytest.mark.parametrize(
    ("plan", "changes"),
    [
        ("data=2", {"activation_checkpointing": True}),
        ("data=2", {"activation_checkpointing": True, "compile": "aot_eager"}),
        endurance("shard=2", {"activation_checkpointing": True}),
        endurance("shard=2", {"activation_checkpointing": True, "compile": "aot_eager"}),
        endurance("data=2", {"compile": "aot_eager"}),
    ],
)
def test_what_is_computed_again_counts_once(plan: str, changes: dict[str, Any]) -> None:
    _, weights, _ = reference(replace(NORMED_CNN, max_steps=4))
    spec = replace(NORMED_CNN, max_steps=4, **changes)
    _, together, _ = gloo.run(ParallelPlan.parse(plan), train, spec)[0]
    assert int(together["2.num_batches_tracked"]) == 12
    for name, weight in weights.items():
        assert torch.allclose(together[name], weight, rtol=0, atol=1e-5), name


@pytest.mark.parametrize("plan", ["data=2", endurance("shard=2")])
def test_lower_precision_is_that_of_one_process(plan: str) -> None:
    spec = replace(NORMED_CNN, max_steps=3, precision="bf16")
    expected, weights, _ = reference(spec)
    logged, together, _ = gloo.run(ParallelPlan.parse(plan), train, spec)[0]
    assert [values["loss"] for values in logged] == pytest.approx(
        [values["loss"] for values in expected], abs=1e-2
    )
    for name, weight in weights.items():
        assert torch.allclose(together[name], weight, rtol=0, atol=1e-2), name


@pytest.mark.parametrize("plan", ["shard=2", endurance("data=2")])
def test_running_statistics_go_on_under_another_plan(plan: str, tmp_path: Path) -> None:
    spec = replace(NORMED_CNN, max_steps=5, checkpoints=EVERY_5)
    saved = gloo.run(ParallelPlan.parse(plan), cutting.train, spec, tmp_path)
    (resumed,) = gloo.run(ALONE, cutting.train, spec, tmp_path)
    assert int(resumed["model"]["11.num_batches_tracked"]) == 15
    assert cutting.same_bits(cutting.merged(saved), resumed)


class Sorted(nn.Module):
    """Rows whose first pixels are bright go another way than the others."""

    def __init__(self) -> None:
        super().__init__()
        self.ways = nn.ModuleList(nn.Sequential(nn.BatchNorm1d(2)) for _ in range(2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        outputs = torch.zeros_like(x)
        for number, way in enumerate(self.ways):
            rows = (x[:, 0] > 0) == bool(number)
            if rows.any():
                outputs[rows] = way(x[rows])
        return outputs


class Spare(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm, self.spare = nn.BatchNorm1d(2), nn.BatchNorm1d(2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        outputs: torch.Tensor = self.norm(x)
        return outputs


class Own(nn.BatchNorm1d):
    def forward(self, x: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
        return torch.batch_norm(
            x, self.weight, self.bias, None, None, True, 0.1, self.eps, torch.backends.cudnn.enabled
        )


class Activated(nn.BatchNorm1d):
    """As some libraries have it: torch's arithmetic, in a forward of its own."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
        return nn.functional.relu(nn.functional.batch_norm(x, None, None, training=True))


def shared(_seat: Seat, model: nn.Module, plan: str, by_chance: bool) -> tuple[int, list[str]]:
    """How many norms of `model` are normalised together, and what is warned of on rank 0."""
    told: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: told.append(record.getMessage())  # type: ignore[method-assign]
    logging.getLogger("raymlops").addHandler(handler)
    seat = replace(_seat, plan=ParallelPlan.parse(plan))
    one, other = torch.tensor([[1.0, 2.0], [1.0, 2.0]]), torch.tensor([[-1.0, 0.0], [-1.0, 0.0]])
    passes = [Rows(inputs=(x,), targets=x) for x in (one, other)]
    share_norms(MLP, model, seat, passes, nullcontext, by_chance=by_chance)
    return sum("forward" in vars(module) for module in model.modules()), told


@pytest.mark.parametrize(
    ("model", "plan", "num_shared", "why"),
    [
        (nn.Sequential(nn.BatchNorm1d(2), Activated(2)), "data=2", 2, None),
        (nn.Sequential(nn.BatchNorm1d(2), Own(2)), "data=2", 1, "1 .*without torch.nn.functional"),
        (Sorted(), "data=2", 0, r"ways.0.0, ways.1.0 .*rows differ in which of them"),
        (Spare(), "data=2", 0, "norm, spare .*the first rows do not go through spare"),
        (nn.BatchNorm1d(2), "data=2,server=1,sync=asynchronous", 0, "wait for nobody"),
        (nn.BatchNorm1d(2), "data=2", 0, "chance decides which layers"),
        (nn.BatchNorm1d(2).eval(), "data=2", 0, None),
    ],
)
def test_norms_that_stay_apart_are_warned_of(
    model: nn.Module, plan: str, num_shared: int, why: str | None
) -> None:
    by_chance = why is not None and "chance" in why
    (found, told), (also, silent) = gloo.run(ParallelPlan(data=2), shared, model, plan, by_chance)
    assert found == also == num_shared
    assert not silent
    if why is None:
        assert not told
    else:
        assert re.search(why, *told)
