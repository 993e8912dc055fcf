"""What a checkpoint costs a training of two workers of Ray Train, beside a synchronous one.

    python -m benchmarks.checkpoints [--quick]

One training saves every second five steps, many turns in one way before it goes on in the next:
asynchronously, synchronously, by torch, by Ray Train's report of what torch has saved, not at all.
    steps   1 ... 5 | 6 ... 10 | 11 ... 15 | 16 ... 20 | 21 ... 25 | ...
            none      ours       none        ours        none        ...
The cost is what five steps took more than those before and after them on average, so that steps
that are slower while it is written count as well; the last way, control, tells how far off that is.
Processor time is told beside it, which a machine that is not quiet changes less. Ours holds the
step's report, too: each step is logged to the ledger.

A report waits until Ray Train has looked at its workers since the one before: every 2 s as it
comes, every 0.1 s where it is told to.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.distributed.checkpoint.state_dict_saver import save

from benchmarks.figures import Figure, report
from raymlops.cluster import ClusterSettings, connect
from raymlops.config import SecretUrl
from raymlops.ledger import open_ledger
from raymlops.ledger.provenance import code_at, environment
from raymlops.train import CheckpointPolicy, Factory, ParallelPlan, TrainSpec
from raymlops.train.checkpoints.checkpoints import Checkpoints
from raymlops.train.loop.loop import Loop
from raymlops.train.loop.progress import Progress
from raymlops.train.plan.seat import Seat
from raymlops.train.workers.worker import Task, recorder

WINDOW = 5
KINDS = ("ours", "waiting", "torch's", "reported", "control")
PLAN = ParallelPlan(data=2)
LOOKS_S = (2.0, 0.1)
_ENDS = "ends.json"
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
    figures = []
    for look_s in LOOKS_S:
        figures += _figures(WIDE, look_s, 10 if quick else 40)
        if not quick:
            figures += _figures(WIDER, look_s, 30)
    report("checkpoints", figures)


def _is_met(costs: Mapping[str, float]) -> bool | None:
    """None where steps with a checkpoint were faster than those without: other work was in the
    way, and the figures say nothing."""
    if min(costs["ours"], costs["reported"]) <= 0.0:
        return None
    return costs["ours"] <= 0.1 * costs["reported"]


def _figures(spec: TrainSpec, look_s: float, turns: int) -> list[Figure]:
    wall, processor = _on_ray(spec, look_s, turns)
    size_mb = 3 * sum(p.nbytes for p in spec.model.make().parameters()) / 1e6
    return [
        Figure(
            name=f"{what} of a checkpoint of {size_mb:.0f} MB, looked at every {look_s:g} s",
            unit="ms",
            ours=costs["ours"] * 1e3,
            references={
                "dcp.save and Ray Train's report": costs["reported"] * 1e3,
                "dcp.save": costs["torch's"] * 1e3,
                "ours, synchronous": costs["waiting"] * 1e3,
                "control": costs["control"] * 1e3,
            },
            goal=goal,
            met=_is_met(costs) if goal else None,
        )
        for what, costs, goal in (
            ("cost", wall, "<= 0.1 x the report"),
            ("processor time", processor, None),
        )
    ]


def _on_ray(spec: TrainSpec, look_s: float, turns: int) -> list[dict[str, float]]:
    """Median seconds, by the clock and of the processor, that a checkpoint of each kind adds."""
    from ray.train import CheckpointConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchTrainer

    os.environ["RAY_TRAIN_HEALTH_CHECK_INTERVAL_S"] = str(look_s)
    with tempfile.TemporaryDirectory() as name, open_ledger(f"sqlite:///{name}/l.db") as ledger:
        folder = Path(name)
        run = ledger.runs.start(
            kind="train",
            model=spec.name,
            params={},
            code=code_at(Path.cwd()),
            config="",
            environment=environment(),
            inputs={},
        )
        turns_each = turns + 1  # the first lays out and fills what later ones find there
        windows = _windows(turns_each)
        task = Task(
            spec=replace(spec, max_steps=len(windows) * WINDOW),
            plan=PLAN,
            folder=SecretUrl(name),
            ledger_url=SecretUrl(ledger.url),
            run_id=run.id,
            num_threads=1,
        )
        with connect(ClusterSettings(num_cpus=2), home=folder):
            TorchTrainer(
                measure,
                train_loop_config={"task": task, "windows": windows},
                scaling_config=ScalingConfig(num_workers=PLAN.num_workers),
                run_config=RunConfig(
                    name="reported",
                    storage_path=name,
                    checkpoint_config=CheckpointConfig(num_to_keep=CheckpointPolicy().keep),
                ),
            ).fit()
        by_clock, of_processor = np.array(json.loads((folder / _ENDS).read_text())).T
        return [_added(np.diff(ends), turns_each) for ends in (by_clock, of_processor)]


def measure(config: dict[str, Any]) -> None:
    """Trains in a worker; rank 0 leaves when each window ended, by the clock and in processor
    time."""
    task: Task = config["task"]
    folder = Path(task.folder.reveal())
    torch.set_num_threads(task.num_threads)
    seat = Seat.take(task.plan)
    saving = InTurn(folder, seat, config["windows"])
    ends = [(time.perf_counter(), time.process_time())]

    with recorder(task) if seat.rank == 0 else contextlib.nullcontext() as record:

        def log(values: Mapping[str, float], step: int) -> None:
            if record is not None:
                record(values, step)
            if step == len(ends) * WINDOW:  # an epoch that ends tells of its last step once more
                ends.append((time.perf_counter(), time.process_time()))

        Loop(task.spec, seat, checkpoints=saving, log=log).run()
    if seat.rank == 0:
        (folder / _ENDS).write_text(json.dumps(ends))


class InTurn(Checkpoints):
    """Saves at the first step of each window, in the window's way."""

    def __init__(self, folder: Path, seat: Seat, windows: Sequence[str | None]) -> None:
        policy = CheckpointPolicy(every_steps=WINDOW)
        super().__init__(folder / "ours", policy, seat)
        self._waiting = Checkpoints(folder / "waiting", replace(policy, asynchronous=False), seat)
        self._torchs = folder / "torchs"
        self._of = seat
        self._ways = dict(enumerate(windows))

    def is_due(self, step: int) -> bool:
        if (step + 1) % WINDOW == 0:
            self.wait()  # within the window, whatever it takes
            if self._of.rank == 0:
                shutil.rmtree(self._torchs, ignore_errors=True)  # it keeps all it saves
        return super().is_due(step) and self._begun(step) not in (None, "control")

    def save(self, tensors: dict[str, Any], progress: Progress) -> None:
        match self._begun(progress.step):
            case "ours":
                super().save(tensors, progress)
            case "waiting":
                self._waiting.save(tensors, progress)
            case "torch's":
                _save(tensors, self._torchs / str(progress.step), self._of)
            case _:
                _report(tensors, progress, self._of)

    def _begun(self, step: int) -> str | None:
        """How the window that begins after `step` saves; after the last there is none."""
        return self._ways.get(step // WINDOW)


def _report(tensors: dict[str, Any], progress: Progress, seat: Seat) -> None:
    """As Ray's guide to training has it."""
    from ray import train

    with tempfile.TemporaryDirectory() as part:
        _save(tensors, Path(part), seat)
        kept = train.Checkpoint.from_directory(part)
        train.report({"step": progress.step}, checkpoint=kept)


def _save(tensors: dict[str, Any], folder: Path, seat: Seat) -> None:
    save(tensors, checkpoint_id=folder, process_group=seat.saving)


def _windows(turns_each: int) -> list[str | None]:
    """How each window saves; None does not."""
    return [None, *(way for kind in KINDS for way in (kind, None) * turns_each)]


def _added(took: NDArray[np.float64], turns_each: int) -> dict[str, float]:
    """What the windows of each kind took more than those around them, the first turn left out."""
    saved, around = took[1::2], (took[:-1:2] + took[2::2]) / 2
    by_kind = (saved - around).reshape(len(KINDS), turns_each)[:, 1:]
    return dict(zip(KINDS, np.median(by_kind, axis=1).tolist(), strict=True))


if __name__ == "__main__":
    main()
