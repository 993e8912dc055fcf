"""Ray Train's controller: killed, it is no reason to end; and nobody but the driver judges it."""

from __future__ import annotations

import os
import signal
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import ray

from raymlops.ledger import Ledger
from raymlops.train import ParallelPlan, Trainer
from raymlops.train.spec import CheckpointPolicy
from raymlops.train.spec.factory import Factory
from raymlops.train.workers.controller import UnsweptTrainer, sweep
from tests.train.specs import MLP
from tests.train.workers.test_elastic import wait_for


@ray.remote(num_cpus=0)
class Keeper:
    """Keeps a CPU, as a controller does for its workers."""

    def keep(self) -> str:
        group = ray.util.placement_group([{"CPU": 1}])
        ray.get(group.ready())
        return str(group.id.hex())


def state(group_id: str) -> str:
    return str(ray.util.placement_group_table()[group_id]["state"])


def controllers() -> list[int]:
    """The processes of those that look after a training."""
    return [
        int(path.parent.name)
        for path in Path("/proc").glob("[0-9]*/cmdline")
        if b"ray::TrainController" in _read(path) and _is_below(int(path.parent.name))
    ]


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:  # it has ended
        return b""


def _is_below(pid: int) -> bool:
    """Whether this process, or what it started, started that one."""
    while pid > 1:
        if pid == os.getpid():
            return True
        status = _read(Path(f"/proc/{pid}/stat"))
        pid = int(status.rpartition(b")")[2].split()[1]) if status else 0
    return False


def test_nobody_else_ends_the_workers_of_a_controller() -> None:
    """Ray Train's helper took it for dead when another Ray on the machine did not know it."""
    from ray.train.v2.api.data_parallel_trainer import DataParallelTrainer

    def kinds(trainer: DataParallelTrainer) -> set[str]:
        return {type(callback).__name__ for callback in trainer._create_default_callbacks()}

    dropped = kinds(DataParallelTrainer(print)) - kinds(UnsweptTrainer(print))
    assert dropped == {"PlacementGroupCleanerCallback"}


@pytest.mark.cluster
def test_what_a_dead_actor_kept_is_free_once_it_is_swept(two_nodes: Any) -> None:
    keepers = [Keeper.remote() for _ in range(2)]
    dying, living = ray.get([keeper.keep.remote() for keeper in keepers])
    ray.kill(keepers[0])
    with pytest.raises(ray.exceptions.ActorDiedError):
        ray.get(keepers[0].keep.remote())
    assert state(dying) == "CREATED"  # Ray would keep it
    sweep()
    assert (state(dying), state(living)) == ("REMOVED", "CREATED")
    ray.kill(keepers[1])


@pytest.mark.cluster
@pytest.mark.slow
def test_a_training_whose_controller_is_killed_goes_on(two_nodes: Any, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    gate.mkdir()
    (gate / "closed").touch()
    spec = replace(
        MLP,
        data=Factory(
            call="tests.train.deaths:gated_digits",
            arguments={"folder": str(gate), "num_reads": 6},  # the probe is the first
        ),
        accumulation=1,
        checkpoints=CheckpointPolicy(every_steps=4, asynchronous=False),
    )
    # All CPUs there are: what a dead controller kept would leave none.
    trainer = Trainer(spec, plan=ParallelPlan(data=2), home=tmp_path, cpus_per_worker=4)
    with ThreadPoolExecutor(1) as thread:
        training = thread.submit(trainer.fit)
        try:
            wait_for(lambda: len(list(gate.glob("2-*"))) == 2, "2 workers")
            (controller,) = controllers()
            os.kill(controller, signal.SIGKILL)
            wait_for(lambda: len(list(gate.glob("2-*"))) == 4, "2 workers again")
        finally:
            (gate / "closed").unlink()
        result = training.result()

    assert (result.steps, result.ended) == (20, None)
    with Ledger(f"sqlite:///{tmp_path / 'ledger.db'}") as ledger:
        restart = ledger.runs.tags(result.run_id)["restart_1"]
        steps = ledger.runs.metrics(result.run_id, "loss")
    assert "a worker was lost (with Ray Train's controller: " in restart
    assert "going on from step 4" in restart
    assert [metric.step for metric in steps] == list(range(1, 21))
