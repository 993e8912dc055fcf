"""Tensor parallelism: the layers of a model replaced by slices of them, one a worker."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext

import torch
from torch import nn
from torch.distributed.tensor import Replicate, Shard
from torch.distributed.tensor.parallel import (
    ColwiseParallel,
    ParallelStyle,
    PrepareModuleInput,
    RowwiseParallel,
    SequenceParallel,
    loss_parallel,
    parallelize_module,
)
from torch.utils._pytree import tree_leaves

from raymlops.errors import TrainingError
from raymlops.train.layouts.base import Context
from raymlops.train.layouts.blocks import blocks_of
from raymlops.train.layouts.slices import Slices, find_slices, find_transformer
from raymlops.train.loop.modes import keeping_modes
from raymlops.train.pipeline.costs import untouched
from raymlops.train.plan.seat import Seat
from raymlops.train.spec import TensorSpec

_TOLERANCE = 1e-3
_ROUNDINGS = 4  # steps of the coarsest numbers that sums in another order may be apart

_ALONG_SEQUENCE = Shard(1)


def slice_layers(
    model: nn.Module, spec: TensorSpec, seat: Seat, probe: tuple[torch.Tensor, ...]
) -> Context:
    """Slices the model in place; returns what must be entered around both passes.

    A rule that finds slices knows names, not what `forward` does between them. So the sliced model
    is held against the whole one on `probe`, the model's arguments for a row or two.

    Raises:
        TrainingError: it gives other outputs on them, or with `spec.sequence` the workers do not
            divide the length of its sequences.
    """
    assert seat.mesh is not None, "a plan with a tensor axis has a mesh"
    slices = find_slices(model, spec)
    styles = _styles(model, slices, spec)
    with _watching_length(model, spec, seat.plan.tensor):
        expected = _outputs(model, probe)
    for module in model.modules():
        # What a sliced layer gives is a view that torch refuses to change.
        if getattr(module, "inplace", False):
            module.inplace = False  # type: ignore[assignment]  # torch: a tensor or a module
    for name, attributes in slices.heads.items():
        module = model.get_submodule(name)
        for attribute in attributes:  # `forward` cuts what this worker has into heads
            setattr(module, attribute, getattr(module, attribute) // seat.plan.tensor)
    for name, style in styles:
        parallelize_module(model, seat.mesh["tensor"], {name: style})
    try:
        found = _outputs(model, probe)
    except RuntimeError as error:
        raise _changed(slices, f"cannot run ({error})") from error
    _compare(expected, found, slices, tolerance=_tolerance_of(model))
    return loss_parallel if spec.loss else nullcontext


def _styles(model: nn.Module, slices: Slices, spec: TensorSpec) -> list[tuple[str, ParallelStyle]]:
    """How each layer is sliced, by name, in the order to do it."""
    along = _ALONG_SEQUENCE if spec.sequence else Replicate()
    styles: list[tuple[str, ParallelStyle]] = [
        (name, ColwiseParallel() if kind == "column" else RowwiseParallel(output_layouts=along))
        for name, kind in slices.layers.items()
    ]
    if not (spec.sequence or spec.loss):
        return styles
    transformer = find_transformer(model, slices, spec)
    if spec.sequence:
        whole, part = (Replicate(),), (_ALONG_SEQUENCE,)
        split = PrepareModuleInput(
            input_layouts=whole, desired_input_layouts=part, use_local_output=True
        )
        gather = PrepareModuleInput(
            input_layouts=part, desired_input_layouts=whole, use_local_output=True
        )
        styles += [(name, gather) for name in transformer.sliced]
        styles += [(name, SequenceParallel(use_local_output=True)) for name in transformer.norms]
        styles.append((transformer.final_norm, SequenceParallel(use_local_output=True)))
        styles.append((transformer.blocks[0], split))
        if not spec.loss:
            styles.append((transformer.head, gather))
    if spec.loss:
        head = ColwiseParallel(
            input_layouts=along, output_layouts=Shard(-1), use_local_output=False
        )
        styles.append((transformer.head, head))
    return styles


@contextmanager
def _watching_length(model: nn.Module, spec: TensorSpec, num_workers: int) -> Iterator[None]:
    """Raises TrainingError where the blocks take sequences that cannot be cut into equal parts:
    the workers would send each other messages of several sizes, and end without a word."""

    def check(_block: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        length = inputs[0].shape[1]
        if length % num_workers:
            raise TrainingError(
                f"tensor is {num_workers}, which does not divide the length {length} of the "
                "sequences that tensor.sequence slices: pad them, or set it to false"
            )

    if not spec.sequence:
        yield
        return
    first = next(iter(blocks_of(model).values()))
    handle = first.register_forward_pre_hook(check)
    try:
        yield
    finally:
        handle.remove()


def _outputs(model: nn.Module, probe: tuple[torch.Tensor, ...]) -> list[torch.Tensor]:
    """The numbers that the model returns, whatever holds them; computed as in a step, since what
    gradients do not allow has to show."""
    from torch.distributed.tensor import DTensor

    with keeping_modes(model), untouched(model):
        outputs = tree_leaves(model.eval()(*probe))
    return [
        (each.full_tensor() if isinstance(each, DTensor) else each).detach()
        for each in outputs
        if isinstance(each, torch.Tensor) and each.dtype != torch.bool
    ]


def _tolerance_of(model: nn.Module) -> float:
    """How far apart outputs may be that are the same but for rounding, by the model's own types."""
    kinds = {p.dtype for p in model.parameters() if p.is_floating_point()}
    return max(_TOLERANCE, *(_ROUNDINGS * torch.finfo(kind).eps for kind in kinds))


def _compare(
    expected: Sequence[torch.Tensor],
    found: Sequence[torch.Tensor],
    slices: Slices,
    *,
    tolerance: float,
) -> None:
    for whole, sliced in zip(expected, found, strict=True):
        if whole.shape != sliced.shape:
            shapes = f"shape {tuple(sliced.shape)} instead of {tuple(whole.shape)}"
            raise _changed(slices, f"gives outputs of {shapes}")
        apart = float((whole - sliced).abs().max())
        if apart > tolerance * max(1.0, float(whole.abs().max())):
            raise _changed(slices, f"gives outputs up to {apart:.3g} apart on the same rows")


def _changed(slices: Slices, told: str) -> TrainingError:
    layers = ", ".join(f"{name} ({kind})" for name, kind in slices.layers.items())
    return TrainingError(
        f"sliced at {layers} the model {told}: name in tensor.slices which layers to slice"
    )
