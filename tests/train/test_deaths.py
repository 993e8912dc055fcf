"""Workers killed at random steps, one after another: the training ends as if nothing had been."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from raymlops.train import CheckpointPolicy, Factory, ParallelPlan, TrainSpec
from raymlops.train.plan.seat import Seat
from tests.endurance import endurance
from tests.train import gloo
from tests.train.specs import MLP


def train(seat: Seat, spec: TrainSpec, folder: Path) -> tuple[Mapping[str, Any], int]:
    """The weights in the end, and at which step this attempt started."""
    from raymlops.train.checkpoints.checkpoints import Checkpoints
    from raymlops.train.loop.loop import Loop

    checkpoints = Checkpoints(folder, spec.checkpoints, seat)
    start = checkpoints.latest() or 0
    loop = Loop(spec, seat, checkpoints=checkpoints)
    loop.run()
    return loop.weights(), start


@pytest.mark.parametrize("num_deaths", [2, endurance(20)])
def test_killed_at_random_steps_it_ends_bit_equal(num_deaths: int, tmp_path: Path) -> None:
    layout = ParallelPlan(shard=2)
    random = np.random.default_rng(7)
    deaths = [[int(random.integers(2)), int(random.integers(2, 9))] for _ in range(num_deaths)]
    (tmp_path / "deaths").mkdir()

    def dying(times: list[list[int]]) -> TrainSpec:
        arguments = {"deaths": times, "folder": str(tmp_path / "deaths")}
        return replace(
            MLP,
            data=Factory(call="tests.train.deaths:deadly_digits", arguments=arguments),
            accumulation=1,
            epochs=100,
            max_steps=8 * num_deaths,  # enough for every one, however late each comes
            checkpoints=CheckpointPolicy(every_steps=3),
        )

    undisturbed, _ = gloo.run(layout, train, dying([]), tmp_path / "undisturbed")[0]
    num_attempts = 1
    while True:
        try:
            weights, start = gloo.run(layout, train, dying(deaths), tmp_path / "disturbed")[0]
        except gloo.DeadRankError:
            num_attempts += 1
        else:
            break

    assert len(list((tmp_path / "deaths").iterdir())) == num_deaths
    # One death may follow another before the first is noticed.
    assert num_deaths / 2 < num_attempts <= num_deaths + 1
    assert start > 0
    assert all(torch.equal(weights[name], undisturbed[name]) for name in undisturbed)
