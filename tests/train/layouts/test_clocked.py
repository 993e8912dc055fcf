"""The share of a step in which sharded workers talk, or wait for who is late."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.distributed as dist

from raymlops.train.plan import ParallelPlan
from raymlops.train.plan.seat import Seat
from raymlops.train.spec.factory import Factory
from tests.train import gloo, models
from tests.train.specs import MLP

LATE_S = 0.1
SPEC = replace(
    MLP,
    model=Factory(call="tests.train.layouts.test_clocked:late_mlp"),
    epochs=1,
    max_steps=4,
    accumulation=1,
)


class Late(torch.nn.Module):
    """The last worker comes late to what is behind it."""

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        if values.device.type != "meta" and dist.get_rank() == dist.get_world_size() - 1:
            time.sleep(LATE_S)
        return values


def late_mlp() -> torch.nn.Module:
    return torch.nn.Sequential(Late(), models.mlp())


def steps(seat: Seat) -> list[Mapping[str, float]]:
    from raymlops.train.loop.loop import Loop

    logged: list[Mapping[str, float]] = []

    def log(values: Mapping[str, float], step: int) -> None:
        if "step_s" in values:
            logged.append(values)

    Loop(SPEC, seat, log=log).run()
    return logged


@pytest.mark.parametrize("plan", ["shard=2", "data=2,shard=2"])
def test_waiting_for_a_late_worker_is_communication(plan: str) -> None:
    told: Any = gloo.run(ParallelPlan.parse(plan), steps)[0]
    assert len(told) == 4
    for values in told:
        parts = [values[f"{n}_s"] for n in ("data", "compute", "communication", "wait", "update")]
        assert min(parts) >= 0
        assert sum(parts) <= values["step_s"]
    # Who was late himself waits for nobody, and a busy machine makes everyone late at times.
    assert max(values["communication_s"] for values in told) > LATE_S / 2
    assert max(values["communication_s"] / values["step_s"] for values in told) > 0.3
