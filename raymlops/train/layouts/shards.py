"""What FSDP2 can shard of a model, and which of its blocks it gathers one by one."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from torch import nn

from raymlops.errors import TrainingError
from raymlops.train.layouts.blocks import blocks_of, num_holders
from raymlops.train.plan import ParallelPlan


def gathered(
    model: nn.Module, blocks: Mapping[str, nn.Module], plan: ParallelPlan
) -> Collection[nn.Module]:
    """The blocks that are gathered one by one; all else is gathered with the whole.

    Of a sliced layer FSDP2 hands on a view, which it warns of: such layers are gathered with the
    whole, and so are those between them. A parameter is gathered in one place: so are blocks that
    share some with what is outside of them. `blocks` are the model's as they were before they were
    wrapped to be computed again.
    """
    if plan.tensor > 1 and any(isinstance(block, nn.Linear) for block in blocks.values()):
        return ()
    holders = num_holders(model)
    return [
        block
        for block in blocks_of(model).values()
        if all(holders[parameter] == count for parameter, count in num_holders(block).items())
    ]


def require_shardable(model: nn.Module) -> None:
    """Raises TrainingError, with the way out, of a model that holds what FSDP2 does not take."""
    for name, parameter in model.named_parameters():
        if parameter.ndim == 0:
            raise TrainingError(
                f"{name} is a single number, which has no rows to share out: give it the shape [1]"
            )
    for name, module in model.named_modules():
        if isinstance(module, nn.Embedding | nn.EmbeddingBag) and module.sparse:
            raise TrainingError(
                f"{name or 'the model'} has sparse=True, and shards take dense gradients alone: "
                "set it to false, or use data alone"
            )
