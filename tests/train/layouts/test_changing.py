"""Models whose passes change parameters or buffers by themselves."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import nullcontext
from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn.utils.parametrizations import spectral_norm

from raymlops.errors import TrainingError
from raymlops.train import ParallelPlan
from raymlops.train.layouts.base import Rows
from raymlops.train.layouts.changing import find_changes
from raymlops.train.spec import TrainSpec
from raymlops.train.spec.factory import Factory
from tests.endurance import endurance
from tests.train import gloo
from tests.train.layouts.training import reference, train
from tests.train.models import mlp
from tests.train.specs import MLP, SERVED_MLP

PASSES = [
    Rows(inputs=(torch.full((2, 64), value),), targets=torch.zeros(2, dtype=torch.int64))
    for value in (0.5, 1.0)
]


class Follower(nn.Module):
    """A teacher that follows what is trained, as of BYOL or MoCo."""

    def __init__(self, way: str = "data", alike: bool = False) -> None:
        super().__init__()
        self.way = way
        self.student, self.teacher = mlp(), mlp().requires_grad_(False)
        if alike:
            self.teacher.load_state_dict(self.student.state_dict())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.training:
            for old, new in zip(self.teacher.parameters(), self.student.parameters(), strict=True):
                self._follow(old, new)
        outputs: torch.Tensor = self.student(x) + self.teacher(x)
        return outputs

    @torch.no_grad()
    def _follow(self, old: nn.Parameter, new: nn.Parameter) -> None:
        if self.way == "data":
            old.data = 0.9 * old.data + 0.1 * new.data
        elif self.way == "within data":
            old.data.mul_(0.9).add_(new.data, alpha=0.1)
        else:
            old.lerp_(new, 0.1)


class Mean(nn.Module):
    """Remembers what it was given."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.full((64,), torch.nan))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.training:
            self.mean.copy_(x.detach().mean(0))  # type: ignore[operator]
        return x


def averaging() -> nn.Module:
    return nn.Sequential(Mean(), nn.Linear(64, 10))


def bounded() -> nn.Module:
    return nn.Sequential(spectral_norm(nn.Linear(64, 10)))


def normed() -> nn.Module:
    return nn.Sequential(nn.BatchNorm1d(64), nn.Linear(64, 10))


def following(spec: TrainSpec, **arguments: object) -> TrainSpec:
    call = "tests.train.layouts.test_changing:Follower"
    return replace(spec, model=Factory(call=call, arguments=arguments))


def warnings_of(model: nn.Module, plan: str, caplog: pytest.LogCaptureFixture) -> Iterable[str]:
    changes = find_changes(MLP, model, PASSES, nullcontext)
    changes.warn(ParallelPlan.parse(plan), model)
    return caplog.messages


@pytest.mark.parametrize(
    ("spec", "plan"), [(MLP, "data=2"), endurance(SERVED_MLP, "data=2,server=2")]
)
def test_copies_change_their_parameters_alike(spec: TrainSpec, plan: str) -> None:
    """What looked for parameters that no loss reaches made the teacher a step ahead."""
    spec = following(replace(spec, accumulation=1))  # a teacher that follows piece by piece
    _, weights, _ = reference(spec)
    _, together, _ = gloo.run(ParallelPlan.parse(plan), train, spec)[0]
    assert together.keys() == weights.keys()
    for name, weight in weights.items():
        assert torch.allclose(together[name], weight, rtol=0, atol=1e-5), name


@pytest.mark.parametrize("plan", ["shard=2", endurance("tensor=2")])
def test_parameters_that_a_plan_would_lose_are_refused_before_the_first_step(plan: str) -> None:
    """Their numbers were others, and nothing said so."""
    with pytest.raises(RuntimeError, match=r"TrainingError: the forward of Follower changes its"):
        gloo.run(ParallelPlan.parse(plan), train, following(MLP))


@pytest.mark.parametrize("way", ["data", "within data", "in place"])
def test_however_parameters_are_changed_they_are_found_and_put_back(way: str) -> None:
    spec = following(MLP, way=way)
    torch.manual_seed(spec.seed)
    model = spec.model.make()
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    changes = find_changes(spec, model, PASSES, nullcontext)
    assert changes.parameters == tuple(name for name in before if name.startswith("teacher"))
    assert all(torch.equal(p, before[name]) for name, p in model.named_parameters())


def test_weights_that_begin_as_what_they_follow_are_found() -> None:
    model = Follower("in place", alike=True)
    changes = find_changes(following(MLP, alike=True), model, PASSES, nullcontext)
    assert "teacher.0.weight" in changes.parameters
    with pytest.raises(TrainingError) as caught:
        changes.require_kept(ParallelPlan(shard=2), model)
    assert str(caught.value) == (
        "the forward of Follower changes its parameters teacher.0.weight, teacher.0.bias, "
        "teacher.2.weight and 3 more, which shard, tensor and pipeline would lose with a passing "
        "copy: use data alone, or make them buffers"
    )
    changes.require_kept(ParallelPlan(data=2), model)


def test_buffers_that_each_worker_has_of_its_own_rows_are_warned_of(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Nothing said why numbers differ; of batch norms alone it was said."""
    (told,) = warnings_of(averaging(), "data=2", caplog)
    assert told.startswith("a pass changes 0.mean by its rows, in each worker by those of its own")


def test_buffers_that_a_pipeline_changes_too_often_are_warned_of(
    caplog: pytest.LogCaptureFixture,
) -> None:
    (told,) = warnings_of(bounded(), "pipeline=2,microbatches=2", caplog)
    assert told.startswith("a pass changes 0.parametrizations.weight.0._u, 0.parametrizations")
    assert "once a microbatch in a pipeline" in told


@pytest.mark.parametrize(
    ("model", "plan"),
    [
        (bounded(), "shard=2"),  # alike in all workers, whatever their rows
        (averaging(), "tensor=2"),  # which have the same rows
        (normed(), "data=2"),  # of which another warning tells
        (mlp(), "data=2,pipeline=2,microbatches=2"),
    ],
)
def test_what_equals_one_process_is_not_warned_of(
    model: nn.Module, plan: str, caplog: pytest.LogCaptureFixture
) -> None:
    assert not warnings_of(model, plan, caplog)
