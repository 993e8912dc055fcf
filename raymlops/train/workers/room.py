"""How many workers the nodes of a cluster have room for: each worker is on one of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from raymlops.cluster.resources import places
from raymlops.errors import TrainingError
from raymlops.train.plan import ParallelPlan
from raymlops.train.spec import DeviceName

ACCELERATORS: Mapping[DeviceName, str] = {"cuda": "GPU", "xla": "TPU"}
"""What Ray calls the one of which a worker on such a device has one to itself."""


def worker_resources(*, cpus_per_worker: float, device: DeviceName) -> dict[str, float]:
    """What Ray keeps for a worker, all of it on one node."""
    accelerator = ACCELERATORS.get(device)
    return {"CPU": cpus_per_worker, **({accelerator: 1.0} if accelerator else {})}


@dataclass(frozen=True, kw_only=True)
class Room:
    """So many workers, and what there is too little of for more."""

    num_workers: int
    scarce: str


def with_room(plan: ParallelPlan, *, num_free: int, num_places: int) -> ParallelPlan:
    """The plan with as many workers as there is room for now, where it is one of copies alone,
    which share the same batches however many they are.

    Where there is room for none it waits, whatever its size; what fits in no number of
    `num_places` is left to be refused.
    """
    if plan.num_workers > plan.data or plan.server or plan.data > num_places or not num_free:
        return plan
    return plan.resized(min(plan.data, num_free))


def room_on(
    nodes: Sequence[Mapping[str, float]], *, cpus_per_worker: float, device: DeviceName
) -> Room:
    """The room on `nodes`, of which each has the resources that Ray knows by these names.

    Raises:
        TrainingError: there is none; Ray Train would wait for ever.
    """
    accelerator = ACCELERATORS.get(device)
    able = [node for node in nodes if accelerator is None or node.get(accelerator, 0.0) >= 1]
    if not able:
        raise TrainingError(
            f"device is {device}, and no machine of the cluster has a {accelerator} that Ray "
            "knows of: add one, or set device to cpu"
        )
    largest = max(node.get("CPU", 0.0) for node in able)
    if cpus_per_worker > largest:
        kind = "node" if accelerator is None else f"node with a {accelerator}"
        raise TrainingError(
            f"a worker needs {cpus_per_worker:g} CPUs (cpus_per_worker), the largest {kind} has "
            f"{largest:g}: set it to less, or add a larger node"
        )
    by_cpus = [places(node.get("CPU", 0.0), cpus_per_worker) for node in able]
    if accelerator is None:
        return Room(num_workers=sum(by_cpus), scarce="CPUs")
    room = sum(min(n, int(node[accelerator])) for n, node in zip(by_cpus, able, strict=True))
    return Room(num_workers=room, scarce=f"{accelerator}s" if room < sum(by_cpus) else "CPUs")
