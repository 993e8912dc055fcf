"""A training of one rank, and the same in one process to hold it against."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from raymlops.train import ParallelPlan
from raymlops.train.plan.seat import Seat
from raymlops.train.spec import TrainSpec
from tests.train import gloo
from tests.train.server.threads import start_threads

ALONE = ParallelPlan()


def train(seat: Seat, spec: TrainSpec) -> tuple[list[Mapping[str, float]], dict[str, Any], int]:
    """What one rank logged, the weights of the whole model, and the numbers it held of it."""
    from raymlops.train.loop.loop import Loop

    logged: list[Mapping[str, float]] = []

    def log(values: Mapping[str, float], step: int) -> None:
        logged.append(values)

    loop = Loop(spec, seat, log=log, start_server=start_threads)
    loop.run()
    held = sum(
        (tensor.to_local() if hasattr(tensor, "to_local") else tensor).numel()
        for tensor in loop.state.tensors()["model"].values()
    )
    return logged, loop.weights(), held


_references: dict[str, Any] = {}


def reference(spec: TrainSpec) -> tuple[list[Mapping[str, float]], dict[str, Any], int]:
    """The same in one process, once a spec."""
    key = repr(spec)
    if key not in _references:
        _references[key] = gloo.run(ALONE, train, spec)[0]
    found: tuple[list[Mapping[str, float]], dict[str, Any], int] = _references[key]
    return found
