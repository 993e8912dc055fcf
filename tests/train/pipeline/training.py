"""What the ranks of a test world do: train a pipeline and give back what became of its model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.tensor import DTensor

from raymlops.train.pipeline import (
    Pipeline,
    PipelineLayout,
    find_chain,
)
from raymlops.train.pipeline.split import partition
from tests.train.pipeline.models import Task

NUM_STEPS = 3
State = dict[str, torch.Tensor]


def even_starts(model: nn.Module, num_stages: int) -> tuple[str, ...]:
    """Stages of as equal numbers of blocks as can be."""
    names = [block.name for block in find_chain(model).blocks]
    return tuple(names[start] for start in partition([1.0] * len(names), num_stages))


def pipeline_of(
    task: Task, layout: PipelineLayout, axis: DeviceMesh, size: int, **more: Any
) -> Pipeline:
    model = task.make()
    return Pipeline(
        model,
        layout,
        axis=axis,
        starts=even_starts(model, layout.num_stages),
        loss=task.loss,
        microbatch_size=size,
        **more,
    )


def optimizer_of(task: Task, parameters: Any) -> torch.optim.Optimizer:
    return torch.optim.SGD(parameters, lr=task.learning_rate, momentum=0.9)


def train_alone(task: Task) -> tuple[State, list[float]]:
    """One process, the mean over all rows: the reference. Also the losses, summed over rows."""
    model = task.make()
    optimizer = optimizer_of(task, model.parameters())
    losses = []
    for _ in range(NUM_STEPS):
        optimizer.zero_grad()
        loss = task.loss(model(task.rows), task.targets)
        (loss / len(task.rows)).backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    return model.state_dict(), losses


def train(pipeline: Pipeline, task: Task, *, scale: float) -> tuple[State, list[float]]:
    """This rank's part of the trained model, and the losses."""
    parameters = list(pipeline.parameters())
    optimizer = optimizer_of(task, parameters) if parameters else None
    losses = []
    for _ in range(NUM_STEPS):
        for parameter in parameters:
            parameter.grad = None
        losses.append(float(pipeline.step(task.rows, task.targets, scale=scale)))
        if optimizer is not None:
            optimizer.step()
    return plain(pipeline.state_dict()), losses


def plain(state: dict[str, Any]) -> State:
    """Whole tensors, also of what is sharded over replicas."""
    return {
        name: value.full_tensor() if isinstance(value, DTensor) else value
        for name, value in state.items()
    }


def train_each(
    task: Task, layouts: Sequence[PipelineLayout], size: int
) -> list[tuple[State, list[float]]]:
    """Each layout in turn, over all ranks."""
    axis = init_device_mesh("cpu", (dist.get_world_size(),), mesh_dim_names=("pipeline",))
    return [
        train(pipeline_of(task, layout, axis, size), task, scale=1 / len(task.rows))
        for layout in layouts
    ]
