"""Trainings by the workers of a plan, on a server in threads where it has one."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from raymlops.train import CheckpointPolicy, OptimizerSpec, ParallelPlan, ScheduleSpec
from raymlops.train.plan.seat import Seat
from raymlops.train.spec import TrainSpec
from tests.train.server.threads import start_threads
from tests.train.specs import MLP

ALONE = ParallelPlan()
FALLING = replace(
    MLP,
    clip_norm=None,
    optimizer=OptimizerSpec(learning_rate=1e-2),
    schedule=ScheduleSpec(name="tests.train.updaters.training:falling"),
    checkpoints=CheckpointPolicy(every_steps=1, keep=1),
)


def falling() -> Any:
    """A schedule that does not depend on how long a training is."""
    return lambda step: 1 / (1 + step)


def train(
    seat: Seat, spec: TrainSpec, folder: Path | None = None
) -> tuple[dict[str, torch.Tensor], list[Mapping[str, float]]]:
    """The weights of the whole model on rank 0, and what it logged."""
    from raymlops.train.checkpoints.checkpoints import Checkpoints
    from raymlops.train.loop.loop import Loop

    logged: list[Mapping[str, float]] = []

    def log(values: Mapping[str, float], step: int) -> None:
        logged.append(values)

    checkpoints = None if folder is None else Checkpoints(folder, spec.checkpoints, seat)
    loop = Loop(spec, seat, checkpoints=checkpoints, log=log, start_server=start_threads)
    loop.run()
    return loop.weights(), logged


def warned(seat: Seat, spec: TrainSpec) -> tuple[dict[str, torch.Tensor], list[str]]:
    """The weights, and every warning that numbers will not be those of one process."""
    told: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: told.append(record.getMessage())  # type: ignore[method-assign]
    logging.getLogger("raymlops").addHandler(handler)
    weights, _ = train(seat, spec)
    return weights, [each for each in told if "not those of one process" in each]


def losses(logged: list[Mapping[str, float]]) -> list[float]:
    return [values["loss"] for values in logged if "loss" in values]


def norms(logged: list[Mapping[str, float]]) -> list[float]:
    return [values["gradient_norm"] for values in logged if "gradient_norm" in values]


def assert_close(found: Mapping[str, torch.Tensor], expected: Mapping[str, torch.Tensor]) -> None:
    assert found.keys() == expected.keys()
    for name, weight in expected.items():
        assert torch.allclose(found[name], weight, rtol=0, atol=1e-5), name


def normed_mlp() -> torch.nn.Module:
    return torch.nn.Sequential(
        # A bias here is taken off again: its gradient is rounding alone, which Adam makes steps of.
        torch.nn.Linear(64, 32, bias=False),
        torch.nn.BatchNorm1d(32),
        torch.nn.ReLU(),
        torch.nn.Linear(32, 10),
    )
