"""What passes between stages: shapes and types, agreed on before the first step."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.fsdp import FSDPModule
from torch.nn.parallel import DistributedDataParallel

from raymlops.errors import TrainingError
from raymlops.train.pipeline.costs import untouched
from raymlops.train.pipeline.schedules import PipelineLayout


@dataclass(frozen=True, kw_only=True)
class Form:
    """Shape and type of a tensor, without its numbers."""

    shape: tuple[int, ...]
    dtype: torch.dtype

    @classmethod
    def of(cls, tensor: torch.Tensor) -> Form:
        return cls(shape=tuple(tensor.shape), dtype=tensor.dtype)

    def zeros(self, device: torch.device) -> torch.Tensor:
        return torch.zeros(self.shape, dtype=self.dtype, device=device)

    def blueprint(self) -> torch.Tensor:
        """A tensor without memory; one that can carry gradients does."""
        return torch.empty(
            self.shape,
            dtype=self.dtype,
            device="meta",
            requires_grad=self.dtype.is_floating_point,
        )

    def __str__(self) -> str:
        return f"{str(self.dtype).removeprefix('torch.')} {list(self.shape)}"


@dataclass(frozen=True, kw_only=True)
class Passage:
    """What a stage takes and gives of one microbatch."""

    takes: tuple[Form, ...]
    gives: Form


def check_passed(stage: int, output: torch.Tensor, agreed: Form) -> None:
    """Compares what a stage gives with what the next one waits for.

    Raises:
        TrainingError: they differ.
    """
    if Form.of(output) != agreed:
        raise TrainingError(
            f"stage {stage} gives {Form.of(output)}, but gave {agreed} when the pipeline started; "
            "inputs must keep their shape and type, and autocast must stay on or off"
        )


def agree_on_passages(
    modules: Mapping[int, nn.Module],
    layout: PipelineLayout,
    group: dist.ProcessGroup,
    device: torch.device,
    inputs: tuple[Form, ...],
) -> dict[int, Passage]:
    """What each of this rank's `modules` (by stage) takes and gives, found by running them once.

    `inputs` is the form of a microbatch of the model's inputs, read by the rank of stage 0. Zeros
    pass through the stages; neither buffers nor random numbers nor gradients remember them.
    """
    passages: dict[int, Passage] = {}
    takes = inputs
    for index, module in modules.items():
        before, behind = index - 1, index + 1
        if before in modules:
            takes = (passages[before].gives,)
        elif index > 0:
            takes = (_receive(layout.rank_of(before), group, device),)
        gives = _try(index, module, takes, device)
        passages[index] = Passage(takes=takes, gives=gives)
        if behind < layout.num_stages:
            _require_real(index, gives)
            if behind not in modules:
                _send(gives, layout.rank_of(behind), group, device)
    return passages


def _try(index: int, module: nn.Module, takes: tuple[Form, ...], device: torch.device) -> Form:
    inner = unwrapped(module)
    with torch.no_grad(), untouched(inner):
        output = inner(*(form.zeros(device) for form in takes))
    for part in inner.modules():
        if isinstance(part, FSDPModule):
            part.reshard()
    if not isinstance(output, torch.Tensor):
        raise TrainingError(
            f"stage {index} gives a {type(output).__name__}; a stage gives one tensor: cut the "
            "model elsewhere, or let its blocks pass one tensor"
        )
    return Form.of(output)


def _require_real(index: int, gives: Form) -> None:
    if gives.dtype.is_complex:
        raise TrainingError(
            f"stage {index} gives {gives}, and stages hand on real numbers alone: name other "
            "blocks in pipeline.starts, or let those of the model pass torch.view_as_real"
        )


def unwrapped(module: nn.Module) -> nn.Module:
    """The module inside DistributedDataParallel, which has nothing to do without gradients."""
    return module.module if isinstance(module, DistributedDataParallel) else module


def _send(form: Form, rank: int, group: dist.ProcessGroup, device: torch.device) -> None:
    dist.send_object_list([form], group=group, group_dst=rank, device=device)


def _receive(rank: int, group: dist.ProcessGroup, device: torch.device) -> Form:
    received: list[Form] = [Form(shape=(), dtype=torch.uint8)]
    dist.recv_object_list(received, group=group, group_src=rank, device=device)
    return received[0]
