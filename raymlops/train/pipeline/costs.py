"""What each block of a chain costs: the bytes of its parameters, the seconds of its forward."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from raymlops.train.generators import kept

if TYPE_CHECKING:
    import torch
    from torch import nn

    from raymlops.train.pipeline.chain import Chain

_NUM_REPEATS = 5


@dataclass(frozen=True, kw_only=True)
class BlockCost:
    """One block of a chain; a backward costs about twice its forward."""

    name: str
    parameter_bytes: int
    forward_s: float


def measure_costs(
    chain: Chain, *inputs: torch.Tensor, num_repeats: int = _NUM_REPEATS
) -> tuple[BlockCost, ...]:
    """The cost of each block on `inputs` [rows, ...]; take as many rows as a microbatch has.

    The fastest of `num_repeats` counts, after one that warms up. The model is as it was before,
    its buffers and random numbers too.
    """
    import torch

    costs = []
    values: tuple[torch.Tensor, ...] = inputs
    with torch.no_grad(), untouched(chain.model):
        for index, block in enumerate(chain.blocks):
            part = chain.part(index, index + 1)
            seconds = []
            for _ in range(num_repeats + 1):
                started = time.perf_counter()
                output = part(*values)
                finish(output.device)
                seconds.append(time.perf_counter() - started)
            values = (output,)
            parameters = [chain.model.get_parameter(name) for name in block.parameters]
            costs.append(
                BlockCost(
                    name=block.name,
                    parameter_bytes=sum(p.numel() * p.element_size() for p in parameters),
                    forward_s=min(seconds[1:]),
                )
            )
    return tuple(costs)


@contextmanager
def untouched(*models: nn.Module) -> Iterator[None]:
    """What runs inside leaves neither buffers (running means) nor random numbers changed."""
    import torch

    from raymlops.train.loop.buffers import copy_buffers, put_back

    buffers = copy_buffers(models)
    devices = {p.device for model in models for p in model.parameters() if p.device.type == "cuda"}
    with torch.random.fork_rng(devices=[device.index for device in devices]), kept():
        try:
            yield
        finally:
            put_back(buffers, models)


def finish(device: torch.device) -> None:
    """Waits until an accelerator has done what it was told; a CPU always has."""
    import torch

    if device.type != "cpu":
        torch.accelerator.synchronize(device)
