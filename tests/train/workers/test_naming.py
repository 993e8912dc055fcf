"""Every worker is called after its run, rank and stage."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
import ray

from raymlops.ledger import Run
from raymlops.train import Factory, ParallelPlan, Trainer
from raymlops.train.workers.naming import name_of, take_name
from tests.train.specs import MLP


@pytest.mark.parametrize(
    ("plan", "rank", "num_stages", "expected"),
    [
        ("data=1", 0, None, "raymlops-digits-7-rank-0"),
        ("data=2,tensor=2", 3, None, "raymlops-digits-7-rank-3-data-1-tensor-1"),
        ("pipeline=2,microbatches=2", 1, None, "raymlops-digits-7-rank-1-stage-1"),
        (
            "pipeline=2,microbatches=4,schedule=zbv_zero_bubble",
            0,
            None,
            "raymlops-digits-7-rank-0-stage-0+3",
        ),
        (
            "pipeline=2,microbatches=4,schedule=interleaved_1f1b",
            1,
            6,
            "raymlops-digits-7-rank-1-stage-1+3+5",
        ),
    ],
)
def test_a_name_tells_rank_axes_and_stages(
    plan: str, rank: int, num_stages: int | None, expected: str
) -> None:
    found = name_of("digits-7", ParallelPlan.parse(plan), rank, num_stages=num_stages)
    assert found == expected


def test_a_process_that_cannot_be_named_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    take_name("raymlops-digits-7-rank-0")  # this one is no actor of Ray
    assert "does not let its process be called raymlops-digits-7-rank-0" in caplog.text


def wait_until(done: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not done():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.01)


@pytest.mark.cluster
@pytest.mark.endurance
@pytest.mark.usefixtures("ray_cluster")
def test_processes_of_workers_are_named_after_rank_and_stage(tmp_path: Path) -> None:
    """While they train, whatever Ray Train asks them in between."""
    folder = tmp_path / "gate"
    folder.mkdir()
    (folder / "closed").touch()
    arguments = {"folder": str(folder), "num_reads": 1}  # the probe
    spec = replace(
        MLP, max_steps=2, data=Factory(call="tests.train.deaths:gated_digits", arguments=arguments)
    )
    plan = ParallelPlan(pipeline=2, microbatches=2)
    runs: list[Run] = []
    with ThreadPoolExecutor(1) as pool:
        training = pool.submit(Trainer(spec, plan=plan, home=tmp_path).fit, on_start=runs.append)
        try:
            wait_until(lambda: training.done() or len(list(folder.glob("2-*"))) == 2)
            workers = [psutil.Process(int(f.name.partition("-")[2])) for f in folder.glob("2-*")]
            expected = {f"ray::raymlops-{runs[0].id}-rank-{rank}-stage-{rank}" for rank in (0, 1)}
            for _ in range(20):  # of Ray Train's polls
                wait_until(lambda: {worker.cmdline()[0] for worker in workers} == expected)
                time.sleep(0.05)
        finally:
            (folder / "closed").unlink()
        training.result()
    logs = Path(ray._private.worker._global_node.get_logs_dir_path())
    prefixes = {f":actor_name:{title.removeprefix('ray::')}" for title in expected}
    found = {line for log in logs.glob("worker-*.out") for line in log.read_text().splitlines()}
    assert prefixes <= found
