"""A stage as torch's schedules drive it, recorded and checked; and what shapes stages exchange."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.fsdp import FSDPModule
from torch.distributed.pipelining import PipelineStage
from torch.nn.parallel import DistributedDataParallel

from raymlops.errors import TrainingError
from raymlops.train.pipeline.costs import untouched
from raymlops.train.pipeline.order import Kind
from raymlops.train.pipeline.schedules import PipelineLayout
from raymlops.train.pipeline.trace import Recorder


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


class Stage(PipelineStage):
    """torch's stage, whose every action is recorded."""

    def __init__(
        self,
        module: nn.Module,
        *,
        index: int,
        num_stages: int,
        group: dist.ProcessGroup,
        passage: Passage,
        recorder: Recorder,
    ) -> None:
        # Told what passes, torch need not find out by a backward on memory it never filled.
        super().__init__(
            module,
            index,
            num_stages,
            recorder.device,
            input_args=tuple(form.blueprint() for form in passage.takes),
            output_args=passage.gives.blueprint(),
            group=group,
        )
        self._passage = passage
        self._recorder = recorder

    def forward_one_chunk(
        self,
        fwd_chunk_id: int,
        args: tuple[Any, ...],
        kwargs: dict[str, Any] | None = None,
        save_forward_output: bool = True,
    ) -> torch.Tensor:
        with self._recorder.action(Kind.FORWARD, stage=self.stage_index, microbatch=fwd_chunk_id):
            output: torch.Tensor = super().forward_one_chunk(
                fwd_chunk_id, args, kwargs, save_forward_output
            )
        check_passed(self.stage_index, output, self._passage.gives)
        return output

    def backward_one_chunk(
        self,
        bwd_chunk_id: int,
        loss: torch.Tensor | None = None,
        full_backward: bool = True,
        last_backward: bool = False,
    ) -> None:
        kind = Kind.BACKWARD if full_backward else Kind.BACKWARD_INPUT
        with self._recorder.action(kind, stage=self.stage_index, microbatch=bwd_chunk_id):
            super().backward_one_chunk(bwd_chunk_id, loss, full_backward, last_backward)
            # The other side receives bytes in the order of the activation it sent.
            self.bwd_cache[bwd_chunk_id] = tuple(
                None if gradient is None else gradient.contiguous()
                for gradient in self.bwd_cache[bwd_chunk_id]
            )

    def backward_weight_one_chunk(self, bwd_chunk_id: int, last_backward: bool = False) -> None:
        with self._recorder.action(
            Kind.BACKWARD_WEIGHT, stage=self.stage_index, microbatch=bwd_chunk_id
        ):
            super().backward_weight_one_chunk(bwd_chunk_id, last_backward)


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
        passages[index] = Passage(takes=takes, gives=_try(index, module, takes, device))
        if behind < layout.num_stages and behind not in modules:
            _send(passages[index].gives, layout.rank_of(behind), group, device)
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


def unwrapped(module: nn.Module) -> nn.Module:
    """The module inside DistributedDataParallel, which has nothing to do without gradients."""
    return module.module if isinstance(module, DistributedDataParallel) else module


def _send(form: Form, rank: int, group: dist.ProcessGroup, device: torch.device) -> None:
    dist.send_object_list([form], group=group, group_dst=rank, device=device)


def _receive(rank: int, group: dist.ProcessGroup, device: torch.device) -> Form:
    received: list[Form] = [Form(shape=(), dtype=torch.uint8)]
    dist.recv_object_list(received, group=group, group_src=rank, device=device)
    return received[0]
