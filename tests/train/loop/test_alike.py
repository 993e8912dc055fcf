"""Rows that are other ones for some workers, or were before."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch.distributed as dist

from raymlops.data.loading import ArraySource
from raymlops.train import CheckpointPolicy, Factory, ParallelPlan
from raymlops.train.spec import TrainSpec
from tests.train import gloo, models
from tests.train.specs import MLP
from tests.train.updaters.training import ALONE, train

SAVED = replace(MLP, max_steps=3, checkpoints=CheckpointPolicy(every_steps=1))


def replaced() -> ArraySource:
    """The file was replaced before the second worker has read it."""
    source, _ = models.digits(280 if dist.get_rank() == 1 else 333)
    return source


@pytest.mark.parametrize("plan", ["data=2", "pipeline=2", "data=2,server=1"])
def test_workers_with_other_rows_end_at_once(plan: str) -> None:
    """They waited for each other at the end of the first epoch."""
    spec = replace(MLP, data=Factory(call="tests.train.loop.test_alike:replaced"))
    told = "workers have other rows to train on: 333 of rank 0; 280 of rank 1"
    with pytest.raises(RuntimeError, match=told):
        gloo.run(ParallelPlan.parse(plan), train, spec)


def of(rows: int) -> TrainSpec:
    return replace(
        SAVED,
        max_steps=9,
        data=Factory(call="tests.train.models:digits", arguments={"rows": rows}),
    )


def test_a_training_within_an_epoch_does_not_go_on_with_other_rows(tmp_path: Path) -> None:
    """Some came twice, and the sum over 150 of 333 rows was a mean over 120."""
    gloo.run(ALONE, train, SAVED, tmp_path)
    told = "checkpoint of step 3 is within an epoch of 333 rows, and there are 120 now"
    with pytest.raises(RuntimeError, match=told):
        gloo.run(ALONE, train, of(120), tmp_path)
    gloo.run(ALONE, train, of(333), tmp_path)  # as many as before
