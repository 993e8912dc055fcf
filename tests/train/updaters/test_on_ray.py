"""A plan with a server through the Trainer: the server lives and dies with the attempt."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from raymlops.cluster import Session
from raymlops.errors import PlanError
from raymlops.train import (
    CheckpointPolicy,
    Factory,
    OptimizerSpec,
    ParallelPlan,
    Trainer,
    TrainSpec,
)
from tests.train import gloo
from tests.train.specs import MLP, SERVED_MLP
from tests.train.updaters.training import train

pytestmark = pytest.mark.cluster

PLAN = ParallelPlan(data=2, server=2)


def mortal(folder: Path, *deaths: tuple[int, int]) -> TrainSpec:
    folder.mkdir(exist_ok=True)
    arguments = {"deaths": [list(death) for death in deaths], "folder": str(folder)}
    return replace(
        SERVED_MLP,
        accumulation=1,
        data=Factory(call="tests.train.deaths:deadly_digits", arguments=arguments),
        checkpoints=CheckpointPolicy(every_steps=4, asynchronous=False),  # there when one dies
    )


@pytest.mark.slow
@pytest.mark.endurance
def test_a_run_with_a_server_ends_bit_equal_though_it_lost_it(
    tmp_path: Path, ray_cluster: Session
) -> None:
    """Rank 0 owns the server: with it die the shards, and what the newest checkpoint holds is
    where the next attempt's begin."""
    weights, _ = gloo.run(PLAN, train, mortal(tmp_path / "deaths"))[0]
    spec = mortal(tmp_path / "deaths", (0, 7))  # the probe is the first read of a rank
    result = Trainer(spec, plan=PLAN, home=tmp_path / "home").fit()
    assert (result.steps, result.ended) == (20, None)
    assert len(list((tmp_path / "deaths").iterdir())) == 1
    model = result.model().state_dict()
    assert all(torch.equal(weight, model[name]) for name, weight in weights.items())


def test_what_the_server_cannot_honour_starts_nothing(tmp_path: Path, ray_cluster: Session) -> None:
    spec = replace(MLP, optimizer=OptimizerSpec(name="rmsprop"))
    with pytest.raises(PlanError, match="a server has no optimizer rmsprop"):
        Trainer(spec, plan=PLAN, home=tmp_path).fit()
