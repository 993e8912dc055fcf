"""What the model of a spec leaves room for, and how large it is, without building its weights."""

from __future__ import annotations

import traceback
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import torch
from torch import nn

from raymlops.errors import TrainingError
from raymlops.train.layouts.blocks import blocks_of
from raymlops.train.layouts.inputs import telling_of_inputs
from raymlops.train.layouts.model import (
    build_model,
    outline,
    require_constant_lookups,
    require_trainable,
)
from raymlops.train.layouts.shards import gathered, require_shardable
from raymlops.train.layouts.slices import Slices, find_slices, find_transformer
from raymlops.train.pipeline.chain import find_chain
from raymlops.train.pipeline.modules import require_cuttable
from raymlops.train.pipeline.split import split_by_hand
from raymlops.train.plan import Axis, ParallelPlan
from raymlops.train.plan.feasibility import Limits
from raymlops.train.plan.proposal import ModelSize, Proposal, propose
from raymlops.train.spec import TrainSpec
from raymlops.train.spec.sources import Sources
from raymlops.train.updaters.demanding import demands_of
from raymlops.train.workers.tracebacks import reason_of

_FIRST_ROW = np.zeros(1, dtype=np.int64)


def propose_plan(spec: TrainSpec, *, max_workers: int, memory_bytes: int) -> Proposal:
    """The plan to train `spec` under on at most so many workers with so much memory each.

    Raises:
        PlanError: the model fits none; says what the smallest plan would need.
    """
    limits = Limits(
        max_workers=max_workers, batch_size=spec.batch_size, accumulation=spec.accumulation
    )
    return propose(size_of(spec), within(spec, limits), memory_bytes=memory_bytes)


def within(spec: TrainSpec, limits: Limits) -> Limits:
    """The limits, with those of the model."""
    model = _shapes(spec)
    slices = find_slices(model, spec.tensor)
    limits = replace(limits, divisible=slices.divisible(model), demands=demands_of(spec, model))
    limits = replace(limits, closed={**_closed(model, slices, spec), **limits.closed})
    if spec.tensor.loss:
        return replace(limits, uncuttable="tensor.loss keeps logits sliced; set it to false")
    try:
        require_cuttable(model)
        chain = find_chain(model)
        blocks = [block.name for block in chain.blocks]
        if spec.pipeline.starts:
            split_by_hand(blocks, spec.pipeline.starts)
    except (TrainingError, ValueError) as error:
        return replace(limits, uncuttable=str(error))
    return replace(
        limits,
        num_layers=len(blocks),
        num_stages=len(spec.pipeline.starts) or None,
        shared=chain.shared,
    )


def _closed(
    model: nn.Module, slices: Slices, spec: TrainSpec
) -> dict[Axis | Literal["server"], str]:
    """The axes that the model cannot have, and why."""
    found: dict[Axis | Literal["server"], str] = {}
    try:
        require_shardable(model, gathered(model, blocks_of(model), ParallelPlan(shard=2)))
    except TrainingError as error:
        found["shard"] = str(error)
    try:
        require_constant_lookups(model)
    except TrainingError as error:
        found |= dict.fromkeys(("data", "shard", "server"), str(error))
    if spec.tensor.sequence or spec.tensor.loss:
        try:
            find_transformer(model, slices, spec.tensor)
        except TrainingError as error:
            found["tensor"] = str(error)
    return found


def size_of(spec: TrainSpec) -> ModelSize:
    """Bytes of the model, and of what its row slices sum up, seen on one row of the data."""
    model = _shapes(spec)
    slices = find_slices(model, spec.tensor)
    summed = [0]

    def count(_layer: nn.Module, _inputs: Any, output: torch.Tensor) -> None:
        summed[0] += output.nbytes

    rows = [name for name, kind in slices.layers.items() if kind == "row"]
    for name in rows:
        model.get_submodule(name).register_forward_hook(count)
    *columns, _targets = Sources.make(spec.data).train.take(_FIRST_ROW)
    inputs = [torch.from_numpy(column).to("meta") for column in columns]
    with torch.no_grad(), telling_of_inputs(spec, inputs):
        model(*inputs)
    return ModelSize(
        parameter_bytes=sum(parameter.nbytes for parameter in model.parameters()),
        num_blocks=max(1, len(blocks_of(model))),
        sliced_bytes=sum(model.get_parameter(f"{name}.weight").nbytes for name in slices.layers),
        num_pairs=len(rows),
        activation_bytes=summed[0] // max(1, len(rows)),
    )


def _shapes(spec: TrainSpec) -> nn.Module:
    """The model without its numbers; one that looks at them as it is made is made with them."""
    if (model := outline(spec)) is not None:
        return model
    try:
        model = build_model(spec)
    except TrainingError:
        raise
    except Exception as error:  # the function is a user's
        reason = reason_of(traceback.format_exc())
        raise TrainingError(f"{spec.model.call} makes no model: {reason}") from error
    require_trainable(spec, model)
    return model.to("meta")
