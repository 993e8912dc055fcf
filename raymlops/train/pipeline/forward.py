"""Outputs without gradients: every stage runs all its microbatches, then passes on."""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.distributed as dist
from torch import nn

from raymlops.train.pipeline.passage import Passage, check_passed, unwrapped
from raymlops.train.pipeline.schedules import PipelineLayout


@torch.no_grad()
def run_forward(
    modules: Mapping[int, nn.Module],
    passages: Mapping[int, Passage],
    layout: PipelineLayout,
    group: dist.ProcessGroup,
    inputs: list[tuple[torch.Tensor, ...]],
    device: torch.device,
) -> list[torch.Tensor]:
    """The microbatches that the last of this rank's `modules` gives.

    `inputs` are the model's, by microbatch, and read by the rank of stage 0. Schedules are for
    training: forward alone, this order keeps every rank as busy as any.
    """
    outputs: list[torch.Tensor] = []
    sends: list[tuple[dist.Work | None, torch.Tensor]] = []
    for index, module in modules.items():
        before, behind = index - 1, index + 1
        arrivals: list[dist.Work | None] = [None] * layout.num_microbatches
        if index > 0 and before in modules:
            inputs = [(output,) for output in outputs]
        elif index > 0:
            (form,) = passages[index].takes
            inputs = [(form.zeros(device),) for _ in arrivals]
            source = layout.rank_of(before)
            arrivals = [dist.irecv(x, group=group, group_src=source) for (x,) in inputs]
        outputs = []
        for arrival, taken in zip(arrivals, inputs, strict=True):
            if arrival is not None:
                arrival.wait()
            output = unwrapped(module)(*taken)
            check_passed(index, output, passages[index].gives)
            outputs.append(output)
            if behind < layout.num_stages and behind not in modules:
                destination = layout.rank_of(behind)
                # The tensor is kept until it was sent.
                sends.append((dist.isend(output, group=group, group_dst=destination), output))
    for send, _ in sends:
        if send is not None:
            send.wait()
    return outputs
