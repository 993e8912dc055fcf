"""The modules a rank holds: cut from the model, wrapped for replicas, named as in the model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import nn
from torch.distributed.checkpoint.state_dict import get_model_state_dict
from torch.distributed.fsdp import FSDPModule
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parallel import DistributedDataParallel

from raymlops.errors import TrainingError
from raymlops.train.pipeline.chain import find_chain
from raymlops.train.pipeline.schedules import PipelineLayout, find_schedule
from raymlops.train.pipeline.split import check_count, split_by_hand

Wrap = Callable[[nn.Module], nn.Module]


def stage_modules(
    model: nn.Module, layout: PipelineLayout, starts: Sequence[str], rank: int
) -> tuple[tuple[str, ...], dict[int, nn.Module]]:
    """The checked split, and the modules of the stages that `rank` holds.

    Raises:
        ValueError: `starts` and the layout do not fit the model.
        TrainingError: the model is no chain, or normalises over the rows of a batch.
    """
    require_cuttable(model)
    chain = find_chain(model)
    blocks = [block.name for block in chain.blocks]
    check_count(len(blocks), layout.num_stages)
    starts = split_by_hand(blocks, starts)
    if len(starts) != layout.num_stages:
        raise ValueError(
            f"{len(starts)} stages are named ({', '.join(starts)}), the layout has "
            f"{layout.num_stages}: {layout.stages_per_rank} on each of {layout.num_ranks} ranks"
        )
    cuts = [*(blocks.index(name) for name in starts), len(blocks)]
    held = layout.stages_of(rank)
    return starts, {index: chain.part(cuts[index], cuts[index + 1]) for index in held}


def require_cuttable(model: nn.Module) -> None:
    """Refuses a model whose layers look at a batch as a whole.

    Raises:
        TrainingError: it normalises over the rows of a batch.
    """
    for name, module in model.named_modules():
        if isinstance(module, _BatchNorm) and (module.training or module.running_mean is None):
            raise TrainingError(
                f"'{name}' ({type(module).__name__}) would normalise over a microbatch instead of "
                "the batch; use GroupNorm or LayerNorm, or put it in evaluation mode with running "
                "statistics to normalise by"
            )


def wrapped_stage(part: nn.Module, wrap: Wrap | None, layout: PipelineLayout) -> nn.Module:
    """`part` as `wrap` makes it train together with its replicas; left alone if it does not train.

    Raises:
        ValueError: its gradients would be wrong under the layout's schedule.
    """
    if wrap is None or not any(parameter.requires_grad for parameter in part.parameters()):
        return part
    wrapped = wrap(part)
    if find_schedule(layout.schedule).splits_backward:
        _check_split_backward(wrapped, layout.schedule)
    return wrapped


def _check_split_backward(stage: nn.Module, schedule: str) -> None:
    """Refuses replicas whose gradients would be wrong, as measured with torch 2.13."""
    way_out = "or take a schedule that does not split backwards, such as interleaved_1f1b"
    if isinstance(stage, DistributedDataParallel):
        raise ValueError(
            f"schedule '{schedule}' computes gradients of weights outside of the hooks in which "
            "DistributedDataParallel reduces them: replicas would drift apart; use fully_shard on "
            f"whole stages, {way_out}"
        )
    nested = [name for name, part in stage.named_modules() if name and isinstance(part, FSDPModule)]
    if nested:
        raise ValueError(
            f"schedule '{schedule}' loses gradients of modules that are sharded within a stage "
            f"({', '.join(nested[:3])}): use fully_shard on whole stages alone, {way_out}"
        )


def state_of(stage: nn.Module) -> dict[str, Any]:
    """Its state without the names that wrapping adds; empty where a stage only computes."""
    return get_model_state_dict(stage) if stage.state_dict() else {}
