"""Batch normalisation over the rows of several workers.

forward     worker 0   rows 0 2 4 ▸ count mean var ─┐              ┌─▸ rows 0 2 4 normalised
                                                    ├─ one gather ─┤
            worker 1   rows 1 3   ▸ count mean var ─┘              └─▸ rows 1 3   normalised

backward    what gradients sum up to over rows, by one sum of all workers
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch.autograd.function import once_differentiable
from torch.nn import functional

from raymlops.train.plan.seat import Seat


class Peers:
    """The workers that share the rows of a batch."""

    def __init__(self, seat: Seat) -> None:
        self._group = seat.another_group()
        self._sends_from = seat.device.sends_from

    def gather(self, mine: torch.Tensor) -> torch.Tensor:
        """What each worker has, [workers, numbers], in the same order everywhere."""
        sent = mine.to(self._sends_from)
        found = [torch.empty_like(sent) for _ in range(dist.get_world_size(self._group))]
        dist.all_gather(found, sent, group=self._group)
        return torch.stack(found).to(mine.device)

    def total(self, mine: torch.Tensor) -> torch.Tensor:
        sent = mine.to(self._sends_from)
        dist.all_reduce(sent, group=self._group)
        return sent.to(mine.device)


def normalize(
    peers: Peers,
    counts: bool,
    x: torch.Tensor,
    running_mean: torch.Tensor | None,
    running_var: torch.Tensor | None,
    weight: torch.Tensor | None = None,
    bias: torch.Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> torch.Tensor:
    """torch's `batch_norm` of the rows [rows, channels, ...] of all `peers`, of which it returns
    this worker's; rows that do not count are normalised, and change nothing of others.

    Raises:
        ValueError: all of them together have a single value a channel.
    """
    if not training:
        return functional.batch_norm(
            x, running_mean, running_var, weight, bias, momentum=momentum, eps=eps
        )
    normalized, mean, var, count = _Normalize.apply(  # type: ignore[no-untyped-call]
        peers, counts, x, weight, bias, eps
    )
    if running_mean is not None and running_var is not None:
        unbiased = var * (count / (count - 1))
        with torch.no_grad():
            running_mean.mul_(1 - momentum).add_(momentum * mean)
            running_var.mul_(1 - momentum).add_(momentum * unbiased)
    output: torch.Tensor = normalized
    return output


class _Normalize(torch.autograd.Function):
    """S. Ioffe, C. Szegedy, Batch Normalization, 2015, algorithm 1 and the gradients below it.

    Numbers of less than 32 bits are computed with as float32, as by torch's
    kernels; vectors of a number a channel are float64 on their way between workers.
    """

    @staticmethod
    def forward(
        ctx: Any,
        peers: Peers,
        counts: bool,
        x: torch.Tensor,
        weight: torch.Tensor | None,
        bias: torch.Tensor | None,
        eps: float,
    ) -> tuple[torch.Tensor, ...]:
        rows, weight, bias = _wide(x), _wide(weight), _wide(bias)
        mean, var, count = _moments(peers, counts, rows)
        ctx.save_for_backward(x, weight, mean, var, count)
        ctx.peers, ctx.counts, ctx.eps = peers, counts, eps
        ctx.mark_non_differentiable(mean, var, count)
        normalized = functional.batch_norm(rows, mean, var, weight, bias, eps=eps)
        return normalized.to(x.dtype), mean, var, count

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor, *_: Any) -> tuple[torch.Tensor | None, ...]:
        x, weight, mean, var, count = ctx.saved_tensors
        rows, gradient = _wide(x), _wide(gradient)
        scale = torch.rsqrt(var.double() + ctx.eps)
        _, of_weight, of_bias = torch.ops.aten.native_batch_norm_backward(
            gradient, rows, weight, mean, var, None, None, False, ctx.eps, [False, True, True]
        )
        of_x = None
        _, _, asks_x, asks_weight, asks_bias, _ = ctx.needs_input_grad
        if asks_x:
            means = ctx.peers.total(torch.stack([of_weight, of_bias]).double()) / count
            slope = scale if weight is None else scale * weight
            by_row, constant = -slope * means
            of_x = (rows - _along(rows, mean)).mul_(_along(rows, by_row * scale))
            of_x.add_(_along(rows, constant)).addcmul_(gradient, _along(rows, slope))
            of_x = of_x.to(x.dtype) if ctx.counts else torch.zeros_like(x)
        return (
            None,
            None,
            of_x,
            of_weight if asks_weight else None,
            of_bias if asks_bias else None,
            None,
        )


def _moments(
    peers: Peers, counts: bool, x: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Mean and biased variance a channel over all workers' rows, and how many values these are.

    Merged as in T. Chan, G. Golub, R. LeVeque, Algorithms for Computing the Sample Variance, 1983,
    equation 2.1: squares of large numbers are never subtracted from each other.
    """
    channels, values = x.shape[1], x.numel() // x.shape[1]
    mine = x.new_zeros(2 * channels + 1, dtype=torch.float64)
    if counts:
        mine[:channels], mine[channels:-1] = torch.batch_norm_update_stats(x, None, None, 0.0)
        mine[-1] = values
    means, variances, sizes = torch.split(peers.gather(mine), [channels, channels, 1], dim=1)
    count = sizes.sum()
    if values < 2 and count < 2:  # one that has more need not ask
        raise ValueError(
            f"Expected more than 1 value per channel when training, got input size {x.size()}"
        )
    mean = (sizes * means).sum(0) / count
    var = (sizes * (variances + (means - mean).square())).sum(0) / count
    return mean.to(x.dtype), var.to(x.dtype), count


def _along(x: torch.Tensor, channels: torch.Tensor) -> torch.Tensor:
    """Numbers a channel as they are added to rows."""
    return channels.to(x.dtype).view(-1, *[1] * (x.ndim - 2))


def _wide(tensor: Any) -> Any:
    if tensor is None:
        return None
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))
