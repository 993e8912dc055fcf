"""How many workers fit on the nodes of a cluster, whose resources are not one pool."""

from __future__ import annotations

import pytest

from raymlops.errors import TrainingError
from raymlops.train.plan import ParallelPlan
from raymlops.train.spec import DeviceName
from raymlops.train.workers.room import Room, room_on, with_room

HOST = {"CPU": 4.0}
ONE_GPU, EIGHT_GPUS = {"CPU": 4.0, "GPU": 1.0}, {"CPU": 4.0, "GPU": 8.0}


@pytest.mark.parametrize(
    ("nodes", "cpus", "device", "num_workers", "scarce"),
    [
        ([{"CPU": 3.0}, {"CPU": 3.0}], 2.0, "cpu", 2, "CPUs"),  # not 6 CPUs, and so 3
        ([{"memory": 8.0}, {"CPU": 1.0}], 0.1, "cpu", 10, "CPUs"),
        ([HOST, ONE_GPU], 1.0, "cuda", 1, "GPUs"),  # the other's CPUs are out of its reach
        ([ONE_GPU, EIGHT_GPUS], 2.0, "cuda", 3, "GPUs"),
        ([EIGHT_GPUS], 2.0, "cuda", 2, "CPUs"),
        ([{"CPU": 8.0, "TPU": 4.0}], 1.0, "xla", 4, "TPUs"),
    ],
)
def test_a_worker_is_on_one_node(
    nodes: list[dict[str, float]], cpus: float, device: DeviceName, num_workers: int, scarce: str
) -> None:
    room = room_on(nodes, cpus_per_worker=cpus, device=device)
    assert room == Room(num_workers=num_workers, scarce=scarce)


@pytest.mark.parametrize(
    ("nodes", "device", "reason"),
    [
        (
            [{"CPU": 1.0}, {"CPU": 1.0}],
            "cpu",
            r"needs 2 CPUs \(cpus_per_worker\), the largest node has 1: set it to less, or add",
        ),
        ([HOST, {"CPU": 1.0, "GPU": 8.0}], "cuda", "the largest node with a GPU has 1"),
        ([HOST], "cuda", "device is cuda, and no machine of the cluster has a GPU that Ray knows"),
        ([HOST], "xla", "no machine of the cluster has a TPU that Ray knows of: add one"),
    ],
)
def test_a_worker_that_fits_on_no_node_is_refused(
    nodes: list[dict[str, float]], device: DeviceName, reason: str
) -> None:
    """Ray Train waited without a word for a node that two half ones were taken for."""
    with pytest.raises(TrainingError, match=reason):
        room_on(nodes, cpus_per_worker=2.0, device=device)


@pytest.mark.parametrize(
    ("plan", "num_free", "num_workers"),
    [
        (ParallelPlan(data=2), 4, 2),
        (ParallelPlan(data=2), 1, 1),
        (ParallelPlan(data=4), 3, 3),
        (ParallelPlan(data=2), 0, 2),  # which waits
        (ParallelPlan(data=9), 1, 9),  # which is refused, and never fits
        (ParallelPlan(data=1, shard=2), 1, 2),  # whose numbers of workers are the model's
    ],
)
def test_copies_without_room_are_left_out(
    plan: ParallelPlan, num_free: int, num_workers: int
) -> None:
    assert with_room(plan, num_free=num_free, num_places=4).num_workers == num_workers
