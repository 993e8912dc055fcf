"""The training loop: equal numbers in every layout, its cost beside plain torch, checkpoints.

    python -m benchmarks.train [--quick]

Run it from the repository's root: models, data and processes are those of the tests.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch

from benchmarks.figures import Figure, report
from raymlops.train import Factory, ParallelPlan, TensorSpec, TrainSpec
from raymlops.train.batches import epoch_batches
from raymlops.train.seat import Seat
from tests.train import gloo
from tests.train.specs import BOTH, CNN, LOSS, MLP, SEQUENCE, TEXT

ALONE = ParallelPlan()
PARITY = {
    "mlp": (
        MLP,
        (
            "data=2", "shard=2", "tensor=2", "data=2,shard=2,tensor=2",
            "pipeline=2,microbatches=4",
            "data=2,pipeline=2,microbatches=4,schedule=zbv_zero_bubble",
        ),
    ),
    "cnn": (CNN, ("data=3", "data=2,shard=2", "data=2,pipeline=2,microbatches=2")),
    "transformer": (
        TEXT,
        (
            "data=2", "shard=2", "tensor=2", "data=2,tensor=2", "shard=2,tensor=2",
            "pipeline=2,microbatches=2", "data=2,shard=2,pipeline=2,microbatches=2",
            "tensor=2,pipeline=2,microbatches=2,data=2",
        ),
    ),
    "transformer, sequence": (SEQUENCE, ("tensor=2",)),
    "transformer, loss": (LOSS, ("tensor=2",)),
    "transformer, both": (BOTH, ("data=2,tensor=2",)),
}  # fmt: skip
WIDE = TrainSpec(
    model=Factory(call="tests.train.models:mlp", arguments={"width": 1024}),
    data=Factory(call="tests.train.models:digits", arguments={"rows": 1792}),
    batch_size=256,
    epochs=1_000,
)


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
    """A step of the loop, everything logged, and of the same lines in plain torch, under DDP."""
    steps = 40 if quick else 200
    ours, plain = gloo.run(ParallelPlan(data=2), both_loops, replace(WIDE, max_steps=steps))[0]
    return Figure(
        name="step of 256 rows, 2 workers",
        unit="ms",
        ours=ours * 1e3,
        references={"plain DDP": plain * 1e3},
        goal="<= 1.03 x plain",
        met=ours <= 1.03 * plain,
    )


def weights(seat: Seat, spec: TrainSpec) -> Mapping[str, Any]:
    from raymlops.train.loop import Loop

    loop = Loop(spec, seat)
    loop.run()
    return loop.weights()


def both_loops(seat: Seat, spec: TrainSpec) -> tuple[float, float]:
    """Median seconds a step of ours and of plain torch, three runs of each in turn."""
    ours, plain = [], []
    for _ in range(3):
        plain += _plain(seat, spec)
        ours += _ours(seat, spec)
    return statistics.median(ours or [0.0]), statistics.median(plain)  # rank 0 alone logs


def _ours(seat: Seat, spec: TrainSpec) -> list[float]:
    from raymlops.train.loop import Loop

    took: list[float] = []

    def log(values: Mapping[str, float], step: int) -> None:
        if step > 5 and "step_s" in values:
            took.append(values["step_s"])

    Loop(spec, seat, log=log).run()
    return took


def _plain(seat: Seat, spec: TrainSpec) -> list[float]:
    from torch.nn.parallel import DistributedDataParallel

    source = spec.data.make()[0]
    model = DistributedDataParallel(spec.model.make())
    optimizer = torch.optim.AdamW(model.parameters())
    took, step = [], 0
    for epoch in range(1, spec.epochs):
        batches = epoch_batches(
            len(source),
            batch_size=spec.batch_size,
            seed=0,
            epoch=epoch,
            rank=seat.replica,
            world_size=2,
        )
        for batch in batches:
            before = time.perf_counter()
            images, labels = map(torch.from_numpy, source.take(batch.rows))
            optimizer.zero_grad()
            loss = torch.nn.functional.cross_entropy(model(images), labels)
            loss.backward()
            optimizer.step()
            float(loss.detach())  # a loop that shows its loss waits for it
            step += 1
            if step > 5:
                took.append(time.perf_counter() - before)
            if step == spec.max_steps:
                return took
    return took


if __name__ == "__main__":
    main()
