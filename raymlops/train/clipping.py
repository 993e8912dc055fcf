"""The norm of all gradients of a model, whichever workers hold them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

import torch
import torch.distributed as dist
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import DTensor, Replicate

from raymlops.train.seat import Seat


def settle(parameters: Iterable[torch.Tensor]) -> None:
    """Sums up gradients that a layer left as one term a worker."""
    for parameter in parameters:
        gradient = parameter.grad
        if isinstance(gradient, DTensor) and any(p.is_partial() for p in gradient.placements):
            whole = [Replicate() if p.is_partial() else p for p in gradient.placements]
            parameter.grad = gradient.redistribute(placements=whole)


def total_norm(parameters: Iterable[torch.Tensor], seat: Seat) -> float:
    """The 2-norm over all shards, no replica counted twice; the same on every worker.

    Squares are summed where they lie, then over those axes only along which a gradient is sliced.
    """
    wide = seat.device.wide
    squares: dict[tuple[DeviceMesh | None, tuple[int, ...]], torch.Tensor] = defaultdict(
        lambda: torch.zeros((), dtype=wide, device=seat.device.where)
    )
    for parameter in parameters:
        gradient = parameter.grad
        if gradient is None:
            continue
        if isinstance(gradient, DTensor):
            axes = tuple(axis for axis, p in enumerate(gradient.placements) if not p.is_replicate())
            key, local = (gradient.device_mesh if axes else None, axes), gradient.to_local()
        else:
            key = (None, ())
            local = gradient.coalesce().values() if gradient.is_sparse else gradient
        squares[key] += torch.linalg.vector_norm(local, dtype=wide) ** 2
    for (mesh, axes), square in squares.items():
        for axis in axes:
            assert mesh is not None, "only what lies on a mesh is sliced"
            dist.all_reduce(square, group=mesh.get_group(axis))
    total = sum(squares.values(), torch.zeros((), dtype=wide, device=seat.device.where))
    if seat.mesh is not None and seat.plan.pipeline > 1:
        dist.all_reduce(total, group=seat.mesh.get_group("pipeline"))
    return float(total.sqrt())


@torch.no_grad()
def scale_gradients(parameters: Iterable[torch.Tensor], factor: float) -> None:
    for parameter in parameters:
        if parameter.grad is not None:
            parameter.grad.mul_(factor)
