"""What a checkpoint costs a training on two workers, beside torch's own synchronous one.

    python -m benchmarks.checkpoints [--quick]

One training saves in turn not at all, asynchronously, synchronously and by torch, every ten steps:
    steps   1 ... 10 | 11 ... 20 | 21 ... 30 | 31 ... 40 | 41 ...
            none       ours        waiting     torch's     none
The cost is what the ten steps took more than those of the same turn without a checkpoint, so that
steps that are slower while it is written count as well. Processor time is told beside it, which a
machine that is not quiet changes less.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed.checkpoint
from numpy.typing import NDArray

from benchmarks.figures import Figure, report
from raymlops.train import CheckpointPolicy, Factory, ParallelPlan, TrainSpec
from raymlops.train.loop.progress import Progress
from raymlops.train.plan.seat import Seat
from tests.train import gloo

WINDOW = 10
KINDS = ("none", "ours", "waiting", "torch's")
WIDE = TrainSpec(
    model=Factory(call="tests.train.models:mlp", arguments={"width": 1024}),
    data=Factory(call="tests.train.models:digits", arguments={"rows": 1792}),
    batch_size=256,
    epochs=1_000,
)
WIDER = replace(
    WIDE,
    model=Factory(call="tests.train.models:mlp", arguments={"width": 4096}),
    batch_size=16,
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="end within a minute")
    quick = parser.parse_args().quick
    figures = _figures(WIDE, 15 if quick else 60)
    if not quick:
        figures += _figures(WIDER, 10)
    report("checkpoints", figures)


def _is_met(costs: Mapping[str, float]) -> bool | None:
    """None where steps with a checkpoint were faster than those without: other work was in the
    way, and the figures say nothing."""
    if min(costs["ours"], costs["torch's"]) <= 0.0:
        return None
    return costs["ours"] <= 0.1 * costs["torch's"]


def _figures(spec: TrainSpec, turns: int) -> list[Figure]:
    with tempfile.TemporaryDirectory() as folder:
        wall, processor = gloo.run(ParallelPlan(data=2), measure, spec, Path(folder), turns)[0]
    size_mb = 3 * sum(p.nbytes for p in spec.model.make().parameters()) / 1e6
    return [
        Figure(
            name=f"{what} of a checkpoint of {size_mb:.0f} MB",
            unit="ms",
            ours=costs["ours"] * 1e3,
            references={
                "torch's dcp.save": costs["torch's"] * 1e3,
                "ours, synchronous": costs["waiting"] * 1e3,
            },
            goal=goal,
            met=_is_met(costs) if goal else None,
        )
        for what, costs, goal in (
            ("cost", wall, "<= 0.1 x dcp.save"),
            ("processor time", processor, None),
        )
    ]


def measure(
    seat: Seat, spec: TrainSpec, folder: Path, turns: int
) -> tuple[dict[str, float], dict[str, float]]:
    """Median seconds, by the clock and of the processor, that a checkpoint of each kind adds on
    rank 0."""
    from raymlops.train.checkpoints.checkpoints import Checkpoints
    from raymlops.train.loop.loop import Loop

    class InTurn(Checkpoints):
        """Saves at the first step of each window, in the window's way."""

        def __init__(self) -> None:
            super().__init__(folder / "ours", CheckpointPolicy(every_steps=WINDOW), seat)
            policy = CheckpointPolicy(every_steps=WINDOW, asynchronous=False)
            self.waiting = Checkpoints(folder / "waiting", policy, seat)

        def is_due(self, step: int) -> bool:
            if (step + 1) % WINDOW == 0:
                self.wait()  # within the window, whatever it takes
                if seat.rank == 0:
                    shutil.rmtree(folder / "torchs", ignore_errors=True)  # it keeps all it saves
            return super().is_due(step) and _kind(step) != "none"

        def save(self, tensors: dict[str, Any], progress: Progress) -> None:
            match _kind(progress.step):
                case "ours":
                    super().save(tensors, progress)
                case "waiting":
                    self.waiting.save(tensors, progress)
                case _:
                    torch.distributed.checkpoint.save(
                        tensors,
                        checkpoint_id=folder / "torchs" / str(progress.step),
                        process_group=seat.saving,
                    )

    ends = {0: (time.perf_counter(), time.process_time())}  # of windows, on rank 0

    def log(values: Mapping[str, float], step: int) -> None:
        if step % WINDOW == 0:
            ends[step // WINDOW] = time.perf_counter(), time.process_time()

    # The first turn lays out and fills what later ones find there.
    num_windows = (turns + 1) * len(KINDS)
    spec = replace(spec, max_steps=num_windows * WINDOW)
    Loop(spec, seat, checkpoints=InTurn(), log=log).run()
    if seat.rank:
        return {}, {}
    by_clock, of_processor = (
        np.diff([ends[n][each] for n in range(num_windows + 1)]) for each in (0, 1)
    )
    return _added(by_clock), _added(of_processor)


def _added(took: NDArray[np.float64]) -> dict[str, float]:
    """What windows of each kind took more than those of the same turn that did not save."""
    by_turn = took.reshape(-1, len(KINDS))[1:]
    added = np.median(by_turn - by_turn[:, :1], axis=0)
    return dict(zip(KINDS, added.tolist(), strict=True))


def _kind(step: int) -> str:
    """How the window that begins after `step` saves."""
    return KINDS[step // WINDOW % len(KINDS)]


if __name__ == "__main__":
    main()
