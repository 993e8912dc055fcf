"""What a parameter server cannot honour is refused before anything starts, with what can be."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from raymlops.errors import PlanError
from raymlops.train import (
    CommunicationSpec,
    Factory,
    OptimizerSpec,
    ParallelPlan,
    ScheduleSpec,
    TrainSpec,
)
from raymlops.train.layouts.limits import within
from raymlops.train.loop.loop import Loop
from raymlops.train.plan.feasibility import Limits, problems, require
from raymlops.train.plan.seat import Seat
from raymlops.train.spec import StoppingPolicy
from tests.train.specs import MLP, SERVED_MLP

INT8 = CommunicationSpec(compressor="int8")
LIMITS = Limits(max_workers=8, batch_size=64)
SERVED = ParallelPlan(data=4, server=2)
STALE = ParallelPlan(data=4, server=2, sync="stale", staleness=2)


def refusals(spec: TrainSpec, plan: ParallelPlan) -> str:
    return "; ".join(problems(plan, within(spec, LIMITS)))


def test_what_a_server_can_honour_is_not_refused() -> None:
    for spec in (SERVED_MLP, MLP, replace(MLP, communication=INT8)):
        assert refusals(spec, SERVED) == refusals(spec, STALE) == ""


@pytest.mark.parametrize(
    ("change", "plan", "reason"),
    [
        (
            {"optimizer": OptimizerSpec(name="rmsprop")},
            SERVED,
            "a server has no optimizer rmsprop; it has sgd (momentum); adam (betas, eps); adamw",
        ),
        (
            {"optimizer": OptimizerSpec(name="sgd", arguments={"nesterov": True})},
            SERVED,
            "the server's sgd has no argument nesterov; it has sgd (momentum)",
        ),
        (
            {"optimizer": OptimizerSpec(name="sgd", arguments={"momentum": 1.5})},
            SERVED,
            "momentum is 1.5, not between 0 and 1",
        ),
        (
            {"stopping": StoppingPolicy(on_nan="skip")},
            STALE,
            "stopping.on_nan is skip, which leaves out steps, and with sync stale the workers",
        ),
        ({"precision": "fp16"}, STALE, "precision is fp16, which leaves out steps whose gradients"),
        (
            {"precision": "fp16", "schedule": ScheduleSpec(name="cosine")},
            SERVED,
            "the server counts only the others: its learning rate would fall behind the schedule",
        ),
        (
            {"communication": CommunicationSpec(compressor="power_sgd")},
            SERVED,
            "compressor is power_sgd, which factors whole matrices, and a server cuts parameters",
        ),
        (
            {"communication": INT8, "precision": "fp16"},
            SERVED,
            "compressor is int8 and precision fp16: what is not sent is kept unscaled here",
        ),
        (
            {
                "communication": INT8,
                "model": Factory(call="tests.train.updaters.test_demands:double"),
            },
            SERVED,
            "compressor is int8, which takes float32, and the trained parameters are of type",
        ),
        (
            {"model": Factory(call="tests.train.updaters.test_demands:tied")},
            SERVED,
            "0.weight and 1.weight are one parameter with sparse gradients",
        ),
        (
            {"model": Factory(call="tests.train.updaters.test_demands:renormed")},
            SERVED,
            "0 has max_norm 1, which changes rows as they are looked up",
        ),
        (
            {"model": Factory(call="tests.train.updaters.test_demands:half")},
            SERVED,
            "the trained parameters are of types ['torch.bfloat16', 'torch.float32']",
        ),
        (
            {},
            replace(SERVED, server=300),
            # (64 x 32 + 32 + 32 x 32 + 32 + 32 x 10 + 10) / 16, each rounded up
            "server is 300, and the parameters can be divided among 217 at most",
        ),
    ],
)
def test_what_a_server_cannot_honour_is_refused(
    change: dict[str, object], plan: ParallelPlan, reason: str
) -> None:
    spec = replace(MLP, **change)  # type: ignore[arg-type]
    assert reason in refusals(spec, plan)


def test_workers_refuse_as_the_driver_does() -> None:
    with pytest.raises(PlanError, match="a server has no optimizer rmsprop"):
        Loop(replace(SERVED_MLP, optimizer=OptimizerSpec(name="rmsprop")), Seat(plan=ONE))


ONE = ParallelPlan(server=1)


def test_the_nearest_plans_have_a_server_or_what_it_stands_for() -> None:
    with pytest.raises(PlanError) as caught:
        require(replace(SERVED, shard=2), within(SERVED_MLP, LIMITS))
    (problem,) = caught.value.problems
    assert problem == (
        "shard is 2 and server 2: workers of a server hold whole copies, on the data axis alone"
    )
    assert "data=4,server=2,sync=synchronous" in caught.value.nearest
    assert "data=4,shard=2" in caught.value.nearest
    elsewhere = within(replace(MLP, optimizer=OptimizerSpec(name="rmsprop")), LIMITS)
    with pytest.raises(PlanError) as caught:
        require(SERVED, elsewhere)
    assert caught.value.nearest[0] == "data=4"
    with pytest.raises(PlanError) as caught:
        require(replace(SERVED, server=1), elsewhere)
    assert len(set(caught.value.nearest)) == 3


def tied() -> torch.nn.Module:
    table, head = torch.nn.Embedding(10, 4, sparse=True), torch.nn.Linear(4, 10)
    head.weight = table.weight
    return torch.nn.Sequential(table, head)


def renormed() -> torch.nn.Module:
    return torch.nn.Sequential(torch.nn.Embedding(10, 4, sparse=True, max_norm=1.0))


def double() -> torch.nn.Module:
    return torch.nn.Linear(64, 10, dtype=torch.float64)


def half() -> torch.nn.Module:
    return torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.Linear(4, 4, dtype=torch.bfloat16))
