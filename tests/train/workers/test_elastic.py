"""A training on machines that come and go."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from raymlops.ledger import Ledger
from raymlops.train import ParallelPlan, Trainer
from raymlops.train.spec import CheckpointPolicy
from raymlops.train.spec.factory import Factory
from tests.train import gloo
from tests.train.specs import MLP
from tests.train.test_trainer import train


def wait_for(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline, f"never saw {what}"
        time.sleep(0.1)


@pytest.mark.cluster
@pytest.mark.slow
@pytest.mark.endurance
@pytest.mark.parametrize("most", [2, 3])
def test_a_training_goes_on_with_fewer_machines_and_takes_more_in_again(
    most: int, two_nodes: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One worker fills a machine, so that the loss of one of `most` machines is that of one."""
    monkeypatch.setattr("raymlops.train.workers.attempt._RESIZE_INTERVAL_S", 1.0)
    home, gate = tmp_path / "home", tmp_path / "gate"
    home.mkdir()
    gate.mkdir()
    closed = gate / "closed"
    closed.touch()
    spec = replace(
        MLP,
        name="digits",
        data=Factory(
            call="tests.train.deaths:gated_digits",
            arguments={"folder": str(gate), "num_reads": 6},  # the probe is the first
        ),
        accumulation=1,
        checkpoints=CheckpointPolicy(every_steps=4, asynchronous=False),
    )

    def waiting(world_size: int, but: frozenset[str] = frozenset()) -> frozenset[str]:
        return frozenset(path.name for path in gate.glob(f"{world_size}-*")) - but

    plan = ParallelPlan(data=most)
    trainer = Trainer(spec, plan=plan, min_workers=most - 1, home=home, cpus_per_worker=4)
    node = {"num_cpus": 4, "object_store_memory": 200_000_000}
    nodes = [*two_nodes.worker_nodes, *(two_nodes.add_node(**node) for _ in range(most - 2))]
    try:
        with ThreadPoolExecutor(1) as thread:
            training = thread.submit(trainer.fit)
            try:
                wait_for(lambda: len(waiting(most)) == most, f"{most} workers")
                first = waiting(most)
                two_nodes.remove_node(nodes.pop(), allow_graceful=False)
                wait_for(lambda: len(waiting(most - 1)) == most - 1, f"{most - 1} workers")
                nodes.append(two_nodes.add_node(**node))
                wait_for(lambda: len(waiting(most, but=first)) == most, f"{most} workers again")
            finally:
                closed.unlink()
            result = training.result()
    finally:
        for extra in nodes[1:]:
            two_nodes.remove_node(extra, allow_graceful=False)

    assert (result.steps, result.ended) == (20, None)
    undisturbed = replace(spec, data=replace(MLP.data, arguments={"rows": 333}))
    _, weights = gloo.run(ParallelPlan(), train, undisturbed)[0]
    found = result.weights()
    for name, weight in weights.items():
        assert torch.allclose(found[name], weight, rtol=0, atol=1e-5), name
    with Ledger(f"sqlite:///{home / 'ledger.db'}") as ledger:
        sizes = ledger.runs.metrics(result.run_id, "num_workers")
        steps = ledger.runs.metrics(result.run_id, "loss")
    assert [size.value for size in sizes] == [most, most - 1, most]
    assert [metric.step for metric in steps] == list(range(1, 21))


@pytest.mark.parametrize(
    ("plan", "min_workers", "reason"),
    [
        ("data=2", 3, "min_workers is 3; it is from 1 to the 2 workers of plan data=2"),
        ("data=2", 0, "min_workers is 0; it is from 1 to"),
        (
            "data=2,tensor=2",
            2,
            "plan data=2,tensor=2 cannot have 2 workers instead of 4: its tensor axis is cut",
        ),
    ],
)
def test_a_plan_that_cannot_shrink_is_refused(plan: str, min_workers: int, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        Trainer(MLP, plan=ParallelPlan.parse(plan), min_workers=min_workers)


@pytest.mark.parametrize(
    ("plan", "num_workers", "resized"),
    [
        ("data=4", 3, "data=3"),
        ("shard=4", 3, "shard=3"),
        ("data=2,shard=2", 2, "shard=2"),
        ("data=2,shard=2", 3, "shard=3"),
        ("tensor=2", 2, "tensor=2"),
    ],
)
def test_copies_go_before_shards(plan: str, num_workers: int, resized: str) -> None:
    assert ParallelPlan.parse(plan).resized(num_workers) == ParallelPlan.parse(resized)
