"""A worker's place in the plan, and the groups it talks in."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh

from raymlops.train.devices import Cpu, Device
from raymlops.train.plan.plan import AXES, SHARING_ROWS, ParallelPlan

# As long as Ray Train lets the training's own traffic wait. Workers of an asynchronous server come
# to the end of an epoch as far apart as they are fast, and a disk may be away for a while.
_PATIENCE = timedelta(minutes=30)


@dataclass(frozen=True, kw_only=True)
class Seat:
    """Where a worker sits. Alone there is no mesh and no group, and nothing is ever sent.

    `replicas` joins the workers among which rows are divided, `saving` all of them, beside the
    training's own traffic.
    """

    plan: ParallelPlan = field(default_factory=ParallelPlan)
    rank: int = 0
    device: Device = field(default_factory=Cpu)
    mesh: DeviceMesh | None = None
    replicas: dist.ProcessGroup | None = None
    saving: dist.ProcessGroup | None = None

    @classmethod
    def take(cls, plan: ParallelPlan, device: Device | None = None) -> Seat:
        """The seat of this process, which has joined torch.distributed unless the plan is alone.

        Raises:
            ValueError: another number of processes has joined.
        """
        device = device or Cpu()
        if plan.num_workers == 1:
            return cls(plan=plan, device=device)
        if dist.get_world_size() != plan.num_workers:
            raise ValueError(
                f"plan {plan} has {plan.num_workers} workers, {dist.get_world_size()} have joined"
            )
        sizes = tuple(plan.sizes[axis] for axis in AXES)
        return cls(
            plan=plan,
            rank=dist.get_rank(),
            device=device,
            mesh=init_device_mesh(device.sends_from.type, sizes, mesh_dim_names=AXES),
            replicas=_replicas_of(plan),
            saving=dist.new_group(backend="gloo", timeout=_PATIENCE),
        )

    @property
    def replica(self) -> int:
        """Which share of each batch it reads."""
        return self.plan.replica(self.rank)

    @property
    def stream(self) -> int:
        """Which random numbers it draws, as for dropout: each stage of each replica its own, but a
        tensor group the same, which holds the same activations between sliced layers."""
        stage = self.plan.coordinates(self.rank)["pipeline"]
        return stage * self.plan.num_replicas + self.replica

    def another_group(self) -> dist.ProcessGroup:
        """`replicas` once more, whose messages keep no order with theirs; every worker calls it."""
        return _replicas_of(self.plan)

    def total(self, values: list[float]) -> list[float]:
        """The element-wise sum over all replicas, the same on every worker."""
        if self.plan.num_replicas == 1:
            return values
        tensor = torch.tensor(values, dtype=torch.float64, device=self.device.sends_from)
        dist.all_reduce(tensor, group=self.replicas)
        return [float(value) for value in tensor]

    def begin_total(self, value: torch.Tensor) -> Callable[[], float]:
        """Begins to sum a number over all replicas; what is returned waits for the sum, the same on
        every worker."""
        device = self.device
        if self.plan.num_replicas == 1:
            return lambda: float(value)
        if device.where.type != device.sends_from.type:  # it would be waited for here
            return lambda: self.total([float(value)])[0]
        tensor = value.to(torch.float64, copy=True)
        work = dist.all_reduce(tensor, group=self.replicas, async_op=True)

        def total() -> float:
            work.wait()
            return float(tensor)

        return total

    def meet(self) -> None:
        """Returns once all replicas have come here."""
        self.total([0.0])

    def align(self, tensors: Iterable[torch.Tensor]) -> None:
        """Overwrites what every replica has of the same tensors by what the first one holds."""
        if self.plan.num_replicas == 1:
            return
        from torch.distributed.tensor import DTensor

        mine = [each.to_local() if isinstance(each, DTensor) else each for each in tensors]
        if not mine:
            return
        # In one message, as bytes: gloo knows no complex numbers.
        packed = [each.to(self.device.sends_from).flatten().view(torch.uint8) for each in mine]
        message, sizes = torch.cat(packed), [len(part) for part in packed]
        dist.broadcast(message, group=self.replicas, group_src=0)
        for each, sent in zip(mine, torch.split(message, sizes), strict=True):
            # A copy begins where numbers of any size may.
            each.copy_(sent.clone().view(each.dtype).view(each.shape))

    def told(self, value: Any) -> Any:
        """The value that rank 0 gives, on every worker."""
        found = [value]
        if self.saving is not None:
            dist.broadcast_object_list(found, src=0, group=self.saving)
        return found[0]

    def of_each(self, value: Any) -> list[Any]:
        """The values that all workers give, by rank."""
        found = [value] * self.plan.num_workers
        if self.saving is not None:
            dist.all_gather_object(found, value, group=self.saving)
        return found


def _replicas_of(plan: ParallelPlan) -> dist.ProcessGroup:
    """A new group of those of this worker that share the rows of a batch."""
    together: Any = dist.new_subgroups_by_enumeration  # untyped
    groups = [list(ranks) for ranks in plan.groups(*SHARING_ROWS)]
    mine, _ = together(groups, timeout=_PATIENCE)
    found: dist.ProcessGroup = mine
    return found
