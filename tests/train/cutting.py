"""Trainings that are cut off and go on, and what every rank of them holds in the end."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from raymlops.data.loading import ArraySource, Columns
from raymlops.train import ParallelPlan
from raymlops.train.loop.progress import Progress
from raymlops.train.plan.seat import Seat
from raymlops.train.spec import CheckpointPolicy, TrainSpec
from raymlops.train.spec.factory import Factory
from raymlops.train.spec.loading import LoadingSpec
from tests.train import models
from tests.train.server.threads import start_threads
from tests.train.specs import MLP

ALONE = ParallelPlan()
EVERY_5 = CheckpointPolicy(every_steps=5, keep=2)
DROPPING = replace(
    MLP,
    model=Factory(call="tests.train.cutting:dropping_mlp"),
    checkpoints=EVERY_5,
    loading=LoadingSpec(num_threads=0),  # what is read is what is learned from
)

# What nobody else loads torch warns of.
RESTORED_ALONE = pytest.mark.filterwarnings("ignore:torch.distributed is disabled")


def dropping_mlp() -> torch.nn.Module:
    return torch.nn.Sequential(torch.nn.Dropout(0.2), models.mlp())


class Watched:
    """A source that remembers which rows were read."""

    def __init__(self, source: ArraySource) -> None:
        self.source = source
        self.seen: list[NDArray[np.int64]] = []

    def __len__(self) -> int:
        return len(self.source)

    def take(self, rows: NDArray[np.int64]) -> Columns:
        self.seen.append(rows)
        return self.source.take(rows)


def train(seat: Seat, spec: TrainSpec, folder: Path, watch: bool = False) -> Mapping[str, Any]:
    """What one rank holds in the end: whole tensors, the rows it read, the losses it logged."""
    from torch.distributed.checkpoint.state_dict import StateDictOptions, get_state_dict

    from raymlops.train.checkpoints.checkpoints import Checkpoints
    from raymlops.train.loop.loop import Loop
    from raymlops.train.spec.sources import Sources

    sources = Sources.make(spec.data)
    watched = Watched(sources.train)  # type: ignore[arg-type]
    losses: dict[int, float] = {}

    def log(values: Mapping[str, float], step: int) -> None:
        if "loss" in values:
            losses[step] = values["loss"]

    loop = Loop(
        spec,
        seat,
        sources=Sources(train=watched, validation=sources.validation),
        checkpoints=Checkpoints(folder, spec.checkpoints, seat),
        log=log,
        start_server=start_threads,
    )
    watched.seen.clear()  # the probe's
    progress = loop.run()
    whole = StateDictOptions(full_state_dict=True)
    model: dict[str, Any] = {}
    state: dict[str, Any] = {}
    for part, optimizer in loop._updater.saved:
        if optimizer is None:
            continue
        of_model, of_optimizer = get_state_dict(part, optimizer, options=whole)
        model |= of_model
        state |= of_optimizer["state"]
    return {
        "progress": progress,
        "model": model,
        "state": state,
        "rows": np.concatenate(watched.seen) if watched.seen else np.array([], np.int64),
        "losses": losses,
        "generator": torch.get_rng_state(),
    }


def train_alone(spec: TrainSpec, folder: Path) -> tuple[Progress, Mapping[str, Any]]:
    """How far the training in `folder` came in this process, and its weights."""
    from raymlops.train.checkpoints.checkpoints import Checkpoints
    from raymlops.train.loop.loop import Loop

    loop = Loop(spec, Seat(), checkpoints=Checkpoints(folder, spec.checkpoints, Seat()))
    return loop.run(), loop.weights()


def flat(tree: Any, prefix: str = "") -> dict[str, torch.Tensor]:
    if isinstance(tree, torch.Tensor):
        return {prefix: tree}
    found: dict[str, torch.Tensor] = {}
    for key, value in tree.items():
        found |= flat(value, f"{prefix}/{key}")
    return found


def merged(ranks: list[Mapping[str, Any]]) -> dict[str, Any]:
    """What all ranks hold: each stage of a pipeline is on some of them."""
    return {
        what: {name: value for rank in ranks for name, value in rank[what].items()}
        for what in ("model", "state")
    }


def same_bits(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    a, b = ({**flat(d["model"], "model"), **flat(d["state"], "state")} for d in (one, other))
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)
