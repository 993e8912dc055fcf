"""The one call on a real Ray cluster: workers that live, fail, and are killed."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import TypeAdapter

from raymlops.cluster import Session
from raymlops.errors import OutOfMemoryError, PlanError, TrainingError
from raymlops.ledger import Ledger
from raymlops.train import CommunicationSpec, ParallelPlan, SocketSpec, Trainer
from raymlops.train.plan.seat import Seat
from raymlops.train.spec import CheckpointPolicy, TrainSpec
from raymlops.train.spec.factory import Factory
from tests.train import gloo
from tests.train.specs import MLP, TEXT

pytestmark = pytest.mark.cluster

EVERY_4 = CheckpointPolicy(every_steps=4, asynchronous=False)  # there when a worker dies


def train(seat: Seat, spec: TrainSpec) -> tuple[list[float], Mapping[str, Any]]:
    """The losses and weights of the same training without Ray."""
    from raymlops.train.loop.loop import Loop

    losses: list[float] = []

    def log(values: Mapping[str, float], step: int) -> None:
        if "loss" in values:
            losses.append(values["loss"])

    loop = Loop(spec, seat, log=log)
    loop.run()
    return losses, loop.weights()


def mortal(folder: Path, *deaths: tuple[int, int]) -> TrainSpec:
    folder.mkdir()
    arguments = {"deaths": [list(death) for death in deaths], "folder": str(folder)}
    data = Factory(call="tests.train.deaths:deadly_digits", arguments=arguments)
    return replace(MLP, name="digits", data=data, accumulation=1, checkpoints=EVERY_4)


def greedy() -> torch.nn.Module:
    return torch.nn.Linear(10**7, 10**7)


@pytest.fixture
def home(tmp_path: Path, ray_cluster: Session) -> Path:
    return tmp_path / "home"


@pytest.fixture
def records(home: Path) -> Any:
    home.mkdir()
    with Ledger(f"sqlite:///{home / 'ledger.db'}") as ledger:
        yield ledger


@pytest.mark.slow
def test_a_run_whose_worker_is_killed_ends_bit_equal(
    home: Path, records: Ledger, tmp_path: Path
) -> None:
    spec = mortal(tmp_path / "deaths", (1, 7))  # the probe is its first read
    sockets = SocketSpec(send_buffer_bytes=65_536)
    spec = replace(spec, communication=CommunicationSpec(sockets=sockets))
    undisturbed = replace(spec, data=replace(spec.data, arguments={
        **spec.data.arguments, "deaths": [],
    }))  # fmt: skip
    losses, weights = gloo.run(ParallelPlan(data=2), train, undisturbed)[0]
    result = Trainer(spec, plan=ParallelPlan(data=2), home=home).fit()

    assert (result.steps, result.ended) == (20, None)
    assert len(list((tmp_path / "deaths").iterdir())) == 1
    model = result.model().state_dict()
    assert all(torch.equal(weight, model[name]) for name, weight in weights.items())

    run = records.runs.get(result.run_id)
    assert (run.status, run.model, run.params["plan"]) == ("finished", "digits", {"data": 2})
    logged = records.runs.metrics(run.id, "loss")  # each step once, though two were done twice
    assert [(metric.step, metric.value) for metric in logged] == list(enumerate(losses, start=1))
    last = records.runs.last_metrics(run.id)
    parts = ("data_s", "compute_s", "communication_s", "wait_s", "update_s")
    assert sum(last[part] for part in parts) <= last["step_s"]
    assert min(last["communication_s"], last["rows_per_s"], last["memory_mb"]) > 0
    assert 0 < last["mfu"] < 1
    assert last["send_buffer_bytes"] == 2 * 65_536  # as the kernel counts


@pytest.mark.endurance  # other failures of a worker are reported every time
def test_a_worker_without_memory_is_reported_as_such(home: Path) -> None:
    hungry = replace(MLP, model=Factory(call="tests.train.test_trainer:greedy"))
    with pytest.raises(OutOfMemoryError, match=r"worker 0 ran out of memory: .*use a smaller"):
        Trainer(hungry, home=home).fit()


def test_an_impossible_plan_starts_nothing(home: Path, records: Ledger) -> None:
    three = replace(TEXT, name="text")
    with pytest.raises(PlanError) as caught:
        Trainer(three, plan=ParallelPlan(tensor=3), home=home).fit()
    assert (
        "tensor is 3, which does not divide the 4 num_heads of blocks.0.attention"
        in caught.value.problems
    )
    assert caught.value.nearest == ("tensor=4", "tensor=2", "shard=2,tensor=2")
    assert list(records.runs.list()) == []


def test_a_worker_that_fits_on_no_node_starts_nothing(home: Path, records: Ledger) -> None:
    with pytest.raises(TrainingError, match=r"needs 64 CPUs \(cpus_per_worker\), the largest node"):
        Trainer(MLP, home=home, cpus_per_worker=64).fit()
    assert list(records.runs.list()) == []


def test_a_device_that_no_machine_has_starts_nothing(home: Path, records: Ledger) -> None:
    for device, accelerator in (("cuda", "GPU"), ("xla", "TPU")):
        told = f"device is {device}, and no machine of the cluster has a {accelerator} that Ray"
        with pytest.raises(TrainingError, match=told):
            Trainer(replace(MLP, device=device), home=home).fit()
    assert list(records.runs.list()) == []


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"cpus_per_worker": 0}, "cpus_per_worker is 0; a worker takes more than 0 CPUs"),
        ({"cpus_per_worker": float("nan")}, "cpus_per_worker is nan"),
        ({"max_restarts": -1}, "max_restarts is -1; set it to 0 to replace no worker"),
    ],
)
def test_a_setting_that_no_worker_can_have_is_refused(changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        Trainer(MLP, **changes)


@pytest.mark.endurance
def test_settings_of_communication_reach_the_workers_before_they_talk(
    home: Path, records: Ledger
) -> None:
    spec = replace(MLP, communication=CommunicationSpec(interface="nowhere0"))
    with pytest.raises(TrainingError) as caught:
        Trainer(spec, plan=ParallelPlan(data=2), home=home).fit()
    assert re.fullmatch(  # it was all that Ray and torch had to say, but for the interfaces
        r"run \S+: a worker failed: communication\.interface is nowhere0, and \S+ has no network "
        r"interface of that name: set it to .*\blo\b.*, or leave it out",
        str(caught.value),
    )
    (run,) = records.runs.list()
    recorded = json.loads(records.text(run.config_digest))
    assert recorded["environment"] == {
        "GLOO_SOCKET_IFNAME": "nowhere0",
    }


@pytest.mark.slow
@pytest.mark.endurance
def test_a_run_whose_driver_was_killed_is_resumed(
    home: Path, records: Ledger, ray_cluster: Session, tmp_path: Path
) -> None:
    every_20 = CheckpointPolicy(every_steps=20)
    spec = replace(MLP, name="digits", epochs=200, max_steps=1_000, checkpoints=every_20)
    script = (
        "import sys; from pathlib import Path; from raymlops.cluster import ClusterSettings; "
        "from raymlops.train import Trainer, TrainSpec; from pydantic import TypeAdapter; "
        "spec = TypeAdapter(TrainSpec).validate_json(sys.argv[1]); "
        "cluster = ClusterSettings(address=sys.argv[3]); "
        "Trainer(spec, home=Path(sys.argv[2]), cluster=cluster, cpus_per_worker=0.5).fit()"
    )
    text = TypeAdapter(TrainSpec).dump_json(spec)
    driver = subprocess.Popen([sys.executable, "-c", script, text, home, ray_cluster.address])
    try:
        while not list(home.glob("training/*/step-*/complete.json")):
            assert driver.poll() is None, "the driver ended by itself"
            time.sleep(0.05)
    finally:
        driver.kill()
        driver.wait()
    (lost,) = records.runs.list(model="digits")
    assert lost.status == "lost"
    result = Trainer.resume(lost.id, home=home)
    assert result.steps == 1_000
    again = json.loads(records.text(records.runs.get(result.run_id).config_digest))
    assert (again["resumable"], again["cpus_per_worker"]) == (True, 0.5)
