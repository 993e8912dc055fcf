"""From a spec and a seat to a layout."""

from __future__ import annotations

import logging
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from torch import nn
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import (
    CheckpointImpl,
    apply_activation_checkpointing,
    checkpoint_wrapper,
)

from raymlops.errors import TrainingError
from raymlops.train.compression import make_compressor
from raymlops.train.devices import Device
from raymlops.train.layouts.alone import Alone
from raymlops.train.layouts.base import Context, Layout, Rows
from raymlops.train.layouts.blocks import blocks_of
from raymlops.train.layouts.shards import gathered
from raymlops.train.layouts.unreached import find_unreached
from raymlops.train.plan import ParallelPlan
from raymlops.train.recipe import make_loss
from raymlops.train.seat import Seat
from raymlops.train.spec import TrainSpec

_logger = logging.getLogger(__name__)


def arrange(spec: TrainSpec, seat: Seat, probe: Rows, folder: Path | None = None) -> Layout:
    """This worker's part of the model of `spec`, from the same first weights whatever the plan.

    `probe` is a row or two, the same on every worker. What is measured to lay the model out is kept
    in `folder`.

    Raises:
        TrainingError: the model cannot be laid out like this.
    """
    model = build_model(spec).to(seat.device.where)
    if not model.training:  # as libraries hand out pretrained ones: no choice of what to freeze
        model.train()
    plan, loss = seat.plan, make_loss(spec.loss)
    if plan.num_replicas > 1 and seat.rank == 0:
        _warn_of_batch_norms(model)
    computing: Context = partial(seat.device.autocast, spec.precision)
    prepare = partial(_compile, spec, seat.device)
    around: Context = nullcontext
    if plan.tensor > 1:
        from raymlops.train.layouts.slicing import slice_layers

        around = slice_layers(model, spec.tensor, seat, probe.inputs)
    blocks = blocks_of(model)
    if spec.activation_checkpointing:
        _recompute(model, blocks)
    if plan.pipeline > 1:
        from raymlops.train.layouts.staged import Staged, decide_stages

        size = microbatch_size(spec, plan)
        rows = tuple(x[:1].expand(size, *x.shape[1:]).contiguous() for x in probe.inputs)
        return Staged(
            model,
            loss,
            seat,
            starts=spec.pipeline.starts or decide_stages(model, seat, rows, folder),
            microbatch_size=size,
            blocks=gathered(model, blocks, plan),
            computing=computing,
            prepare=prepare,
            timeline_to=folder if spec.pipeline.timeline else None,
        )
    if plan.shard > 1 or (plan.data > 1 and plan.tensor > 1):  # DDP takes no sliced layers
        from raymlops.train.layouts.sharded import Sharded

        prepare(model)
        alike = gathered(model, blocks, plan)
        return Sharded(model, loss, seat, blocks=alike, computing=computing, around=around)
    device = seat.device
    if spec.cuda_graphs or (plan.data > 1 and device.sends_from != device.where):
        from raymlops.train.layouts.averaged import Averaged

        prepare(model)
        recorder = device.recorder() if spec.cuda_graphs else None
        return Averaged(model, loss, seat, computing=computing, recorder=recorder)
    # Before it is compiled, which two rows are not worth.
    together = plan.data > 1 or plan.server > 0
    seen = probe if plan.server else _first_alone(probe)
    unreached = find_unreached(model, loss, seen, computing) if together else []
    prepare(model)
    if plan.data > 1 and not plan.server:
        from raymlops.train.layouts.replicated import Replicated

        return Replicated(
            model,
            loss,
            seat,
            computing=computing,
            compressor=make_compressor(spec.communication),
            unreached=unreached,
        )
    return Alone(model, loss, computing=computing, around=around, unreached=unreached)


def build_model(spec: TrainSpec) -> nn.Module:
    """The untrained model; the same weights for the same seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(spec.seed)
        model = spec.model.make()
    if not isinstance(model, nn.Module):
        raise TrainingError(f"{spec.model.call} made a {type(model).__name__}, not a torch module")
    return model


def _first_alone(rows: Rows) -> Rows:
    """As many rows, all of them the first: of modules that are used by what is in a row, such as
    experts, it reaches no more than its own."""
    inputs = tuple(x[:1].expand_as(x).contiguous() for x in rows.inputs)
    return replace(
        rows, inputs=inputs, targets=rows.targets[:1].expand_as(rows.targets).contiguous()
    )


def _warn_of_batch_norms(model: nn.Module) -> None:
    kinds = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
    if apart := [n for n, m in model.named_modules() if isinstance(m, kinds) and m.training]:
        _logger.warning(
            "%s normalise each worker's rows by themselves, so that numbers are not those of one "
            "process: use SyncBatchNorm on GPUs, or a norm within rows such as LayerNorm",
            ", ".join(apart),
        )


def microbatch_size(spec: TrainSpec, plan: ParallelPlan) -> int:
    """Rows of the largest microbatch of any worker."""
    rows = -(-spec.batch_size // plan.num_replicas)
    return -(-rows // (spec.accumulation * plan.microbatches))


def _recompute(model: nn.Module, blocks: dict[str, nn.Module]) -> None:
    """Keeps the inputs of blocks and computes what is in them again in the backward pass."""
    if not blocks:
        raise TrainingError(
            f"activation_checkpointing is set, and {type(model).__name__} has neither a ModuleList "
            "nor a Sequential whose members could be computed again: set it to false"
        )
    chosen = {id(block) for block in blocks.values()}
    apply_activation_checkpointing(
        model,
        checkpoint_wrapper_fn=partial(
            checkpoint_wrapper, checkpoint_impl=CheckpointImpl.NO_REENTRANT
        ),
        check_fn=lambda module: id(module) in chosen,
    )


def _compile(spec: TrainSpec, device: Device, model: nn.Module) -> None:
    if spec.compile is None:
        return
    if (why := device.why_uncompiled(spec.compile)) is not None:
        _logger.warning("compile is %s, and %s: the model runs uncompiled", spec.compile, why)
        return
    model.compile(backend=spec.compile)
