"""What the model of a spec leaves room for, found without building its weights."""

from __future__ import annotations

from dataclasses import replace

import torch

from raymlops.train.feasibility import Limits
from raymlops.train.layouts.arrange import build_model
from raymlops.train.layouts.blocks import blocks_of
from raymlops.train.layouts.slices import find_slices
from raymlops.train.spec import TrainSpec


def within(spec: TrainSpec, limits: Limits) -> Limits:
    """The limits, with those of the model."""
    with torch.device("meta"):
        model = build_model(spec)
    blocks = blocks_of(model)
    return replace(
        limits,
        num_layers=len(blocks) or None,
        divisible=find_slices(model, spec.tensor).divisible(model),
    )
