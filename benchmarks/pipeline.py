"""The bubble of each schedule with stages that sleep, beside theory.

Stages that only sleep need no cores: what is measured is the schedule, its messages and its order,
not the machine. What else a machine does can only add waiting, so the step with the least counts.
A stage sleeps once forward, once for the gradient of its input and once for that of its weight. The
model has as many stages as a schedule holds: a rank's work is the same under all.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.multiprocessing import start_processes

from benchmarks.figures import Figure, report
from raymlops.train.pipeline import (
    SCHEDULES,
    Pipeline,
    PipelineLayout,
    Timeline,
    draw,
    equal_stages,
    simulate,
    work_order,
)

NUM_RANKS = 4
RANK_S = 0.1  # a microbatch's forward on one rank, over all its stages; its backward takes two
SINGLE = ("gpipe", "1f1b")  # one stage a rank: (S-1)/(M+S-1) is theirs


class _Sleep(torch.autograd.Function):
    """The identity, whose backward sleeps."""

    @staticmethod
    def forward(context: Any, x: torch.Tensor, seconds: float) -> torch.Tensor:
        context.seconds = seconds
        return x.view_as(x)

    @staticmethod
    def backward(context: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None]:
        time.sleep(context.seconds)
        return gradient, None


class Sleeper(nn.Module):
    """A stage that sleeps `seconds` forward, and as long for each part of its backward."""

    def __init__(self) -> None:
        super().__init__()
        self.seconds = 0.0
        self.weight = nn.Parameter(torch.zeros(1))
        # The first stage's input needs no gradient: this stands in, so that stages are equal.
        self.start = nn.Parameter(torch.zeros(1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        time.sleep(self.seconds)
        x = x if x.requires_grad else x + self.start
        return _Sleep.apply(x, self.seconds) + _Sleep.apply(self.weight, self.seconds)


def measure(layout: PipelineLayout, num_steps: int) -> list[Timeline]:
    """Recorded steps of sleeping stages on this rank's world, after one that does not sleep."""
    axis = init_device_mesh("cpu", (layout.num_ranks,), mesh_dim_names=("pipeline",))
    sleepers = [Sleeper() for _ in range(layout.num_stages)]
    pipeline = Pipeline(
        nn.Sequential(*sleepers),
        layout,
        axis=axis,
        starts=[str(stage) for stage in range(layout.num_stages)],
        loss=lambda outputs, targets: outputs.sum(),
        microbatch_size=1,
    )
    batch = torch.zeros(layout.num_microbatches, 8)
    pipeline.step(batch, batch, scale=1.0)
    for sleeper in sleepers:
        sleeper.seconds = RANK_S / layout.stages_per_rank
    timelines = []
    for _ in range(num_steps):
        with pipeline.recording() as recording:
            pipeline.step(batch, batch, scale=1.0)
        timelines.append(recording.timeline)
    return timelines


def _member(rank: int, folder: str, layouts: list[PipelineLayout], num_steps: int) -> None:
    torch.set_num_threads(1)
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    dist.init_process_group(
        "gloo", init_method=f"file://{folder}/store", rank=rank, world_size=NUM_RANKS
    )
    measured = [measure(layout, num_steps) for layout in layouts]
    if rank == 0:
        torch.save(measured, Path(folder) / "measured")
    dist.destroy_process_group()


def figures(layouts: list[PipelineLayout], num_steps: int) -> list[Figure]:
    with tempfile.TemporaryDirectory() as folder:
        start_processes(
            _member,
            args=(folder, layouts, num_steps),
            nprocs=NUM_RANKS,
            start_method="forkserver",
        )
        measured = torch.load(Path(folder) / "measured", weights_only=False)
    found = []
    for layout, timelines in zip(layouts, measured, strict=True):
        best = min(timelines, key=lambda timeline: timeline.bubble_share)
        print(f"{layout.schedule}, {layout.num_microbatches} microbatches")
        print(draw(best, width=120), end="\n\n")
        found.append(_figure(layout, best.bubble_share))
    return found


def _figure(layout: PipelineLayout, bubble: float) -> Figure:
    formula = (NUM_RANKS - 1) / (layout.num_microbatches + NUM_RANKS - 1)
    theory = simulate(work_order(layout), equal_stages()).bubble_share
    single = layout.schedule in SINGLE
    return Figure(
        name=f"{layout.schedule}_{layout.num_microbatches}_microbatches_bubble_share",
        unit="share",
        ours=bubble,
        references={"theory": theory, "(S-1)/(M+S-1)": formula},
        goal=f"{formula:.4f} within 10 %" if single else f"< {formula:.4f}",
        met=abs(bubble - formula) <= 0.1 * formula if single else bubble < formula,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="8 microbatches only, one step each")
    quick = parser.parse_args().quick
    layouts = [
        PipelineLayout.fewest_stages(name, num_ranks=NUM_RANKS, num_microbatches=num_microbatches)
        for num_microbatches in ((8,) if quick else (8, 16))
        for name in SCHEDULES
    ]
    report("pipeline", figures(layouts, num_steps=1 if quick else 3))


if __name__ == "__main__":
    main()
