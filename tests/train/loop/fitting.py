"""Trainings of digits by the loop itself, in this process."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import torch

from raymlops.data.loading import ArraySource
from raymlops.train.loop.loop import Loop
from raymlops.train.loop.progress import Progress
from raymlops.train.plan.seat import Seat
from raymlops.train.spec import TrainSpec
from raymlops.train.spec.factory import Factory
from raymlops.train.spec.sources import Sources
from tests.train import models
from tests.train.specs import MLP

PLAIN = replace(MLP, accumulation=1, clip_norm=None, epochs=2, max_steps=None)
BLANK = replace(
    PLAIN,
    model=Factory(call="tests.train.models:lengths"),
    data=Factory(call="tests.train.models:blank_digits"),
    batch_size=200,
    epochs=1,
)


def fit(
    spec: TrainSpec, sources: Sources | None = None
) -> tuple[list[Mapping[str, float]], torch.nn.Module, Progress]:
    """What was logged, the trained model, and how far it came."""
    logged: list[Mapping[str, float]] = []
    loop = Loop(spec, Seat(), sources=sources, log=lambda values, step: logged.append(values))
    progress = loop.run()
    return logged, loop.parts[0], progress


def broken_digits(num_broken: int) -> Sources:
    train, _ = models.digits(200)
    images, labels = (column.copy() for column in train.columns)
    images[:num_broken, 0] = np.nan
    return Sources(train=ArraySource([images, labels]))
