"""The training loop: equal numbers in every layout, and its cost beside plain torch.

    python -m benchmarks.train [--quick]

Run it from the repository's root: models, data and processes are those of the tests.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil

from benchmarks.figures import Figure, report
from raymlops.cluster import ClusterSettings
from raymlops.ledger import Run, open_ledger
from raymlops.train import Factory, ParallelPlan, TensorSpec, Trainer, TrainSpec
from raymlops.train.plan.seat import Seat
from tests.train import gloo
from tests.train.server.threads import start_threads
from tests.train.specs import BOTH, CNN, FLIGHTS, LOSS, MLP, NORMED_CNN, SEQUENCE, TEXT

ALONE = ParallelPlan()
PARITY = {
    "mlp": (
        MLP,
        (
            "data=2", "shard=2", "tensor=2", "data=2,shard=2,tensor=2",
            "pipeline=2,microbatches=4",
            "data=2,pipeline=2,microbatches=4,schedule=zbv_zero_bubble",
            "data=2,server=2",
        ),
    ),
    "cnn": (CNN, ("data=3", "data=2,shard=2", "data=2,pipeline=2,microbatches=2")),
    "cnn with batch norms": (NORMED_CNN, ("data=2", "data=3", "shard=2", "data=2,shard=2")),
    "transformer": (
        TEXT,
        (
            "data=2", "shard=2", "tensor=2", "data=2,tensor=2", "shard=2,tensor=2",
            "pipeline=2,microbatches=2", "data=2,shard=2,pipeline=2,microbatches=2",
            "tensor=2,pipeline=2,microbatches=2,data=2", "data=4,server=3",
        ),
    ),
    "transformer, sequence": (SEQUENCE, ("tensor=2",)),
    "transformer, loss": (LOSS, ("tensor=2",)),
    "transformer, both": (BOTH, ("data=2,tensor=2",)),
    "flights, rows by key": (FLIGHTS, ("data=2,server=2", "data=4,server=3")),
}  # fmt: skip
WIDE = TrainSpec(
    model=Factory(call="tests.train.models:mlp", arguments={"width": 1024}),
    data=Factory(call="tests.train.models:digits", arguments={"rows": 1792}),
    batch_size=256,
    epochs=1_000,
)

_TURN_S = 1.0
_WARM_UP_STEPS = 20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="end within a minute")
    quick = parser.parse_args().quick
    report("train", [*_parity(quick), _overhead(quick)])


def _parity(quick: bool) -> list[Figure]:
    """The largest difference of any parameter after 20 steps against one process."""
    found = []
    for name, (spec, plans) in PARITY.items():
        expected = gloo.run(ALONE, weights, replace(spec, tensor=TensorSpec()))[0]
        for plan in plans[:1] if quick else plans:
            together = gloo.run(ParallelPlan.parse(plan), weights, spec)[0]
            apart = max(float((together[n] - w).abs().max()) for n, w in expected.items())
            found.append(
                Figure(
                    name=f"{name}, {plan}: parameters apart",
                    unit="",
                    ours=apart,
                    references={},
                    goal="<= 1e-5",
                    met=apart <= 1e-5,
                )
            )
    return found


def _overhead(quick: bool) -> Figure:
    """A step of the Trainer on Ray, everything logged, and of the same loop under torchrun.

    Both run at the same time, each in turn while all processes of the other are stopped:

        Ray, its workers   ████      ████      ████
        torchrun                ████      ████      ████

    so that what else the machine does disturbs them alike. A step in which a process is stopped is
    one of many, which a median does not see.
    """
    steps = 150 if quick else 800
    with tempfile.TemporaryDirectory() as name, ThreadPoolExecutor(1) as pool:
        folder = Path(name)
        runs: list[Run] = []
        trainer = Trainer(
            replace(WIDE, max_steps=steps),
            plan=ParallelPlan(data=2),
            home=folder,
            cluster=ClusterSettings(num_cpus=2),
        )
        training = pool.submit(trainer.fit, on_start=runs.append)
        while not (_steps_of(folder, runs) or training.done()):
            time.sleep(0.1)
        of_ray = psutil.Process().children(recursive=True)
        command = (sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2")
        module = ("-m", "benchmarks.peers.torchrun_ddp", str(steps), str(folder / "took.json"))
        with subprocess.Popen([*command, *module]) as torchrun:
            _take_turns(of_ray, torchrun, training)
        training.result()
        if torchrun.returncode:
            raise RuntimeError(f"torchrun ended with {torchrun.returncode}")
        ours = statistics.median(_steps_of(folder, runs)[_WARM_UP_STEPS:])
        plain = statistics.median(json.loads((folder / "took.json").read_text())[_WARM_UP_STEPS:])
    return Figure(
        name="step of 256 rows, 2 workers",
        unit="ms",
        ours=ours * 1e3,
        references={"the same loop under torchrun": plain * 1e3},
        goal="<= 1.03 x torchrun",
        met=ours <= 1.03 * plain,
    )


def _take_turns(
    of_ray: Sequence[psutil.Process], torchrun: subprocess.Popen[bytes], training: Future[Any]
) -> None:
    """Until one of both has ended, when the other goes on alone."""
    launcher = psutil.Process(torchrun.pid)
    while torchrun.poll() is None and not training.done():
        with _stopped(of_ray):
            time.sleep(_TURN_S)
        with _stopped([launcher, *launcher.children(recursive=True)]):
            time.sleep(_TURN_S)


@contextlib.contextmanager
def _stopped(processes: Sequence[psutil.Process]) -> Iterator[None]:
    def tell(signal_number: int) -> None:
        for process in processes:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(signal_number)

    tell(signal.SIGSTOP)
    try:
        yield
    finally:
        tell(signal.SIGCONT)


def _steps_of(home: Path, runs: Sequence[Run]) -> list[float]:
    """Seconds of each step that the ledger knows of."""
    if not runs:
        return []
    with open_ledger(f"sqlite:///{home / 'ledger.db'}") as ledger:
        return [each.value for each in ledger.runs.metrics(runs[0].id) if each.name == "step_s"]


def weights(seat: Seat, spec: TrainSpec) -> Mapping[str, Any]:
    from raymlops.train.loop.loop import Loop

    loop = Loop(spec, seat, start_server=start_threads)
    loop.run()
    return loop.weights()


if __name__ == "__main__":
    main()
