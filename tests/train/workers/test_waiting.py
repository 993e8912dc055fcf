from __future__ import annotations

import os
import threading
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import ray

from raymlops.cluster import Node, Session
from raymlops.cluster.holders import Holder
from raymlops.errors import NoRoomError
from raymlops.ledger import Ledger
from raymlops.train import ParallelPlan, Trainer
from raymlops.train.workers import waiting
from raymlops.train.workers.failures import Failure
from raymlops.train.workers.waiting import num_free, scarcest, told
from tests.train.specs import MLP


class Keeper:
    @ray.method
    def ready(self) -> bool:
        return True


def node(host: str, total: dict[str, float], used: dict[str, float]) -> Node:
    return Node(node_id=host, host=host, alive=True, used=used, total=total)


def test_room_is_told_by_machine_and_holder() -> None:
    """Halves of two machines were told as one free CPU, for which a worker waited."""
    nodes = [node("a", {"CPU": 2.0}, {"CPU": 1.5}), node("b", {"CPU": 4.0}, {"CPU": 3.2})]
    holders = [Holder(name="replicas of digits", amount=4.0), Holder(name="tasks", amount=0.7)]
    assert told(2, "CPU", 1.0, nodes, holders) == (
        "2 workers need 1 CPUs each, free are 0.8 of 4 on b, 0.5 of 2 on a; "
        "kept are 4 by replicas of digits, 0.7 by tasks"
    )
    many = [node(f"m{i}", {"CPU": 1.0}, {"CPU": 1.0}) for i in range(6)]
    assert told(1, "CPU", 0.5, many, []) == (
        "a worker needs 0.5 CPUs, free are "
        "0 of 1 on m0, 0 of 1 on m1, 0 of 1 on m2, 0 of 1 on m3 and 2 more"
    )


def test_what_is_scarce_is_what_is_free_for_fewest() -> None:
    nodes = [node("a", {"CPU": 8.0, "GPU": 2.0}, {"CPU": 1.0, "GPU": 2.0}), node("b", {}, {})]
    assert scarcest({"CPU": 1.0, "GPU": 1.0}, nodes) == "GPU"
    assert scarcest({"CPU": 8.0}, nodes) == "CPU"


def test_a_worker_has_room_where_all_that_it_needs_is_free() -> None:
    apart = [
        node("a", {"CPU": 4.0, "GPU": 2.0}, {"CPU": 4.0}),
        node("b", {"CPU": 4.0, "GPU": 1.0}, {"CPU": 1.0}),
        node("c", {"CPU": 4.0}, {}),
    ]
    assert num_free({"CPU": 1.0}, apart) == 7
    assert num_free({"CPU": 1.0, "GPU": 1.0}, apart) == 1


class NeverPlaced:
    def wait(self, _timeout_s: float) -> bool:
        return False


def test_a_run_that_lost_a_machine_tells_how_it_goes_on(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """It had checkpoints, and ended without a word on them."""
    groups = import_module("ray.util.placement_group")  # Ray has a function of that name as well
    monkeypatch.setattr(groups, "placement_group", lambda _: NeverPlaced())
    monkeypatch.setattr(groups, "remove_placement_group", lambda _: None)
    monkeypatch.setattr(waiting, "_is_room", lambda *_: ready.pop(0))
    monkeypatch.setattr(waiting, "_room_now", lambda *_: "none is free")
    monkeypatch.setattr(Trainer, "_require_room", lambda _: None)
    lost = Failure(kind="lost", rank=1, reason="its node died")
    monkeypatch.setattr("raymlops.train.workers.restarts.attempt", lambda *_, **__: lost)
    monkeypatch.setattr("raymlops.train.workers.restarts.newest_whole_step", lambda *_: 40)
    ready = [True, False]  # there was room, until a machine was lost
    with pytest.raises(NoRoomError) as caught:
        Trainer(MLP).fit_run("digits-1", folder=str(tmp_path), ledger_url="sqlite://")
    assert str(caught.value).endswith(
        "or add machines; `raymlops train --resume digits-1` goes on from step 40"
    )


@pytest.mark.cluster
@pytest.mark.parametrize("min_workers", [None, 1])
def test_a_training_waits_for_room_not_without_end(
    min_workers: int | None,
    own_ray_cluster: Session,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """It waited for ever, and did not say for whom."""
    monkeypatch.setattr(waiting, "PATIENCE_S", 3.0)
    keeper = ray.remote(Keeper).options(name="keeper", num_cpus=3.5, lifetime="detached").remote()
    assert ray.get(keeper.ready.remote())
    trainer = Trainer(MLP, plan=ParallelPlan(data=2), home=tmp_path, min_workers=min_workers)
    try:
        with pytest.raises(NoRoomError) as caught:
            trainer.fit()
    finally:
        ray.kill(keeper)
    needed = "a worker needs 1 CPUs" if min_workers else "2 workers need 1 CPUs each"
    told_both = f"{needed}, free are 0.5 of 4 on "
    assert told_both in caplog.text
    assert told_both in str(caught.value)
    assert "kept are 3.5 by keeper; end one of those (`raymlops undeploy`" in str(caught.value)
    with Ledger(f"sqlite:///{tmp_path / 'ledger.db'}") as ledger:
        (run,) = ledger.runs.list()
    assert run.status == "failed"


@pytest.mark.cluster
@pytest.mark.usefixtures("own_ray_cluster")
def test_room_that_comes_free_ends_the_waiting(caplog: pytest.LogCaptureFixture) -> None:
    keeper: Any = ray.remote(Keeper).options(num_cpus=4).remote()
    assert ray.get(keeper.ready.remote())
    threading.Timer(3.0, ray.kill, [keeper]).start()
    waiting.wait_for_room(2, {"CPU": 1.0}, run_id="digits-1")
    assert f"kept are 4 by process {os.getpid()} of " in caplog.text
    waiting.wait_for_room(4, {"CPU": 1.0}, run_id="digits-1")  # nothing of that room was kept
