"""A stage as torch's schedules drive it, recorded and checked."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.pipelining import PipelineStage

from raymlops.train.pipeline.order import Kind
from raymlops.train.pipeline.passage import Passage, check_passed
from raymlops.train.pipeline.trace import Recorder


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
            # That of a sum is one number seen many times over, which cannot be sent.
            self.bwd_cache[bwd_chunk_id] = tuple(
                None if gradient is None else gradient.contiguous()
                for gradient in self.bwd_cache[bwd_chunk_id]
            )

    def backward_weight_one_chunk(self, bwd_chunk_id: int, last_backward: bool = False) -> None:
        with self._recorder.action(
            Kind.BACKWARD_WEIGHT, stage=self.stage_index, microbatch=bwd_chunk_id
        ):
            super().backward_weight_one_chunk(bwd_chunk_id, last_backward)
