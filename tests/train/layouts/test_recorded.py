"""A training under a pipeline leaves the timeline of a step behind."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from raymlops.train import CheckpointPolicy, ParallelPlan, TrainSpec
from raymlops.train.plan.seat import Seat
from raymlops.train.spec import PipelineSpec
from tests.train import gloo
from tests.train.specs import MLP

SPEC = replace(
    MLP,
    max_steps=2,
    accumulation=1,
    pipeline=PipelineSpec(timeline=True),
    checkpoints=CheckpointPolicy(every_steps=2),
)


def train(seat: Seat, spec: TrainSpec, folder: Path) -> None:
    from raymlops.train.checkpoints.checkpoints import Checkpoints
    from raymlops.train.loop.loop import Loop

    Loop(spec, seat, checkpoints=Checkpoints(folder, spec.checkpoints, seat)).run()


def test_the_timeline_of_a_step_lies_beside_the_checkpoints(tmp_path: Path) -> None:
    plan = ParallelPlan(data=2, pipeline=2, microbatches=3)
    gloo.run(plan, train, SPEC, tmp_path)
    first, second, share, theory, _ = (tmp_path / "timeline.txt").read_text().split("\n")
    for rank, line in enumerate((first, second)):
        assert line.startswith(f"rank {rank} |")
        assert len(line) == 100 + len("rank 0 ||")
    assert "% bubble in " in share
    assert theory.endswith("% bubble where each stage takes its median time and messages take none")
    trace = json.loads((tmp_path / "timeline.json").read_text())
    spans = [event for event in trace["traceEvents"] if event["ph"] == "X"]
    assert len(spans) == 12  # forward and backward of 3 microbatches in 2 stages


def test_a_timeline_needs_a_folder() -> None:
    with pytest.raises(ValueError, match=r"timeline is true and checkpoints\.every_steps 0"):
        replace(SPEC, checkpoints=CheckpointPolicy())
