from __future__ import annotations

import time
from pathlib import Path

import pytest

from raymlops.cluster import ClusterRecord, ClusterSettings, connect, find, spawn
from raymlops.errors import ClusterError

pytestmark = pytest.mark.cluster


def counter_class() -> type:
    """A class workers get by value: they cannot import this module."""

    class Counter:
        def __init__(self, start: int) -> None:
            self.count = start

        def add(self, amount: int) -> int:
            self.count += amount
            return self.count

    return Counter


@pytest.mark.usefixtures("joined")
def test_an_actor_is_made_once_and_found_by_name() -> None:
    import ray

    counter = spawn(counter_class(), "counter", 10)
    assert ray.get(counter.add.remote(1)) == 11
    assert ray.get(spawn(counter_class(), "counter", 99).add.remote(1)) == 12
    assert ray.get(find("counter").add.remote(1)) == 13
    with pytest.raises(ClusterError, match=r"no actor 'countr' in .*'raymlops', .*: counter"):
        find("countr")
    ray.kill(counter)


def test_a_detached_actor_outlives_its_driver_and_another_does_not(
    cluster: ClusterRecord, home: Path
) -> None:
    import ray

    settings = ClusterSettings(address="auto")
    with connect(settings, home=home):
        kept = spawn(counter_class(), "kept", 0)
        lost = spawn(counter_class(), "lost", 0, lifetime="driver")
        assert ray.get([kept.add.remote(1), lost.add.remote(1)]) == [1, 1]
    with connect(settings, home=home):
        assert ray.get(find("kept").add.remote(1)) == 2
        with pytest.raises(ClusterError, match="no actor 'lost'"):
            find("lost")
        ray.kill(find("kept"))


@pytest.mark.usefixtures("joined")
def test_calls_of_an_actor_that_lists_none_are_no_tasks_of_ray() -> None:
    import ray

    # Named as no class of another test, whose calls Ray may list late.
    quiet = spawn(type("Quiet", (counter_class(),), {}), "quiet", 0, lists_calls=False)
    listed = spawn(type("Listed", (counter_class(),), {}), "listed", 0)
    assert ray.get([quiet.add.remote(1) for _ in range(5)])[-1] == 5
    assert ray.get(listed.add.remote(1)) == 1
    deadline = time.monotonic() + 60
    told: list[str] = []
    while "task::Listed.add" not in told and time.monotonic() < deadline:
        told = [each["cat"] for each in ray.timeline()]
    assert told.count("task::Listed.add") == 1
    assert "task::Quiet.add" not in told
    for actor in (quiet, listed):
        ray.kill(actor)
