"""Workers that run apart, or send little, learn what one process learns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest
import torch

from raymlops.data.loading import ArraySource
from raymlops.train import CommunicationSpec, Factory, OptimizerSpec, ParallelPlan, ScheduleSpec
from raymlops.train.spec import TrainSpec
from tests.endurance import endurance
from tests.train import gloo, models
from tests.train.updaters.training import ALONE, losses, train

DIGITS = TrainSpec(
    model=Factory(call="tests.train.models:mlp", arguments={"width": 64}),
    data=Factory(call="tests.train.updaters.test_learning:mixed_digits"),
    batch_size=32,
    epochs=40,
    # At 0.3 gradients that are a little old are a step too far in some runs, by five points.
    optimizer=OptimizerSpec(name="sgd", learning_rate=0.1),
    schedule=ScheduleSpec(name="linear"),
)


def mixed_digits() -> tuple[ArraySource, ArraySource]:
    """Digits of all writers to train on, and 500 to validate on."""
    every, _ = models.digits(1797)
    order = np.random.default_rng(0).permutation(1797)
    return ArraySource(every.take(order[500:])), ArraySource(every.take(order[:500]))


def accuracy(weights: Mapping[str, torch.Tensor]) -> float:
    """On the digits held out, in percent."""
    model = models.mlp(64)
    model.load_state_dict(dict(weights))
    _, held_out = mixed_digits()
    images, labels = map(torch.from_numpy, held_out.take(np.arange(500)))
    return 100 * float((model(images).argmax(1) == labels).float().mean())


@pytest.mark.parametrize(
    "plan", ["server=2,sync=asynchronous", endurance("server=2,sync=stale,staleness=2")]
)
def test_workers_that_run_apart_learn_what_one_process_learns(plan: str) -> None:
    """As many updates on as many rows: each push of a third of a batch is one."""
    alone, _ = gloo.run(ALONE, train, DIGITS)[0]
    spec = replace(DIGITS, batch_size=3 * DIGITS.batch_size)
    weights, logged = gloo.run(ParallelPlan.parse(f"data=3,{plan}"), train, spec)[0]
    assert accuracy(alone) > 95
    # Who pushes first is left to chance: runs differ by a digit or two of five hundred.
    assert accuracy(weights) >= accuracy(alone) - 1.0
    assert len(losses(logged)) == 14 * 40


@pytest.mark.parametrize(
    ("communication", "share"),
    [
        endurance(CommunicationSpec(compressor="int8"), 0.26),
        endurance(CommunicationSpec(compressor="top_k", arguments={"ratio": 0.05}), 0.1),
    ],
)
def test_compressed_gradients_learn_what_whole_ones_learn(
    communication: CommunicationSpec, share: float
) -> None:
    alone, expected = gloo.run(ALONE, train, DIGITS)[0]
    spec = replace(DIGITS, communication=communication)
    weights, logged = gloo.run(ParallelPlan(data=2, server=2), train, spec)[0]
    assert accuracy(weights) >= accuracy(alone) - 0.5
    assert losses(logged)[-1] != losses(expected)[-1]
    whole_mb = sum(weight.nbytes for weight in weights.values()) / 2**20
    assert logged[0]["sent_mb"] == pytest.approx(share * whole_mb, rel=0.05)
