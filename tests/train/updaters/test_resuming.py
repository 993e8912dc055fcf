"""What goes on from a checkpoint, under another plan or the same."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from raymlops.train import CheckpointPolicy, CommunicationSpec, ParallelPlan
from tests.train import gloo
from tests.train.specs import FLIGHTS
from tests.train.updaters.training import ALONE, FALLING, assert_close, losses, train


def test_a_training_goes_on_under_a_server_and_without_it(tmp_path: Path) -> None:
    alone, expected = gloo.run(ALONE, train, FALLING)[0]
    curve = []
    for plan, steps in (("data=2", 6), ("data=2,server=2", 13), ("shard=2", 20)):
        spec = replace(FALLING, max_steps=steps)
        weights, logged = gloo.run(ParallelPlan.parse(plan), train, spec, tmp_path)[0]
        curve += losses(logged)
    assert_close(weights, alone)
    assert curve == pytest.approx(losses(expected), abs=1e-5)


def test_what_was_not_sent_is_in_checkpoints(tmp_path: Path) -> None:
    """Of parameters, not of shards: another number of them goes on from it."""
    plan = ParallelPlan(data=2, server=2)
    communication = CommunicationSpec(compressor="top_k", arguments={"ratio": 0.1})
    spec = replace(FALLING, communication=communication)
    whole, expected = gloo.run(plan, train, spec, tmp_path / "whole")[0]
    gloo.run(plan, train, replace(spec, max_steps=11), tmp_path / "cut")
    weights, logged = gloo.run(plan, train, spec, tmp_path / "cut")[0]
    assert all(torch.equal(weights[name], weight) for name, weight in whole.items())
    assert losses(logged) == losses(expected)[11:]
    _, logged = gloo.run(
        ParallelPlan(data=2, server=3),
        train,
        replace(spec, max_steps=22, epochs=9),
        tmp_path / "cut",
    )[0]
    assert losses(logged)[-1] < losses(expected)[0]


def test_rows_of_tables_are_in_checkpoints(tmp_path: Path) -> None:
    spec = replace(FLIGHTS, checkpoints=CheckpointPolicy(every_steps=7))
    alone, _ = gloo.run(ALONE, train, spec)[0]
    plan = ParallelPlan(data=2, server=2)
    gloo.run(plan, train, replace(spec, max_steps=9), tmp_path)
    weights, logged = gloo.run(plan, train, spec, tmp_path)[0]
    assert len(losses(logged)) == 20 - 7
    assert_close(weights, alone)
