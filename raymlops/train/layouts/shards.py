"""What FSDP2 can shard of a model, and which of its blocks it gathers one by one."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import torch
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


def without_skipped(
    model: nn.Module, blocks: Collection[nn.Module], unreached: Collection[str]
) -> Collection[nn.Module]:
    """The blocks, or none where a row leaves out a whole one, by what is `unreached` then: it takes
    all workers to gather a block, and rows of one may use what those of another leave out."""
    if not unreached:
        return blocks
    left_out = {model.get_parameter(name) for name in unreached}
    trained = ([p for p in block.parameters() if p.requires_grad] for block in blocks)
    return () if any(each and left_out.issuperset(each) for each in trained) else blocks


def require_shardable(model: nn.Module, blocks: Collection[nn.Module]) -> None:
    """Raises TrainingError, with the way out, of a model that holds what FSDP2 does not take, where
    `blocks` of it are gathered one by one."""
    for name, parameter in model.named_parameters():
        if parameter.ndim == 0:
            raise TrainingError(
                f"{name} is a single number, which has no rows to share out: give it the shape [1]"
            )
        if not parameter.is_contiguous():
            raise TrainingError(
                f"{name} lies in memory with strides {list(parameter.stride())}, and shards are "
                "cut where rows lie one after the other: make it contiguous(), or leave out "
                "memory_format"
            )
    for name, module in model.named_modules():
        if isinstance(module, nn.Embedding | nn.EmbeddingBag) and module.sparse:
            raise TrainingError(
                f"{name or 'the model'} has sparse=True, and shards take dense gradients alone: "
                "set it to false, or use data alone"
            )
    _require_one_type_each(model, blocks)


def _require_one_type_each(model: nn.Module, blocks: Collection[nn.Module]) -> None:
    """What is gathered together travels as one tensor."""
    group = {p: number for number, block in enumerate(blocks) for p in block.parameters()}
    firsts: dict[int | None, tuple[str, torch.dtype]] = {}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        first, dtype = firsts.setdefault(group.get(parameter), (name, parameter.dtype))
        if parameter.dtype != dtype:
            raise TrainingError(
                f"{first} is {dtype} and {name} {parameter.dtype}, and shards gather both "
                "together: give them one type, or make layers of one type a member of a "
                "ModuleList, which is gathered by itself"
            )
