"""Pipelines of a perceptron on digits, and the gradients of their stages."""

from __future__ import annotations

import torch
from torch import nn

from raymlops.train.pipeline import Pipeline, PipelineLayout
from tests.train.pipeline.models import digits

TASK = digits(50)


def layout(schedule: str, *, ranks: int = 1, microbatches: int = 4) -> PipelineLayout:
    return PipelineLayout.fewest_stages(schedule, num_ranks=ranks, num_microbatches=microbatches)


def gradients(model: nn.Module) -> dict[str, torch.Tensor]:
    return {n: p.grad for n, p in model.named_parameters() if p.grad is not None}


def gradients_of(pipeline: Pipeline) -> dict[str, torch.Tensor]:
    return {n: g for stage in pipeline.stages.values() for n, g in gradients(stage).items()}
