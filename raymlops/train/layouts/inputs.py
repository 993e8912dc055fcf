"""Which layer does not take what the data give: torch tells of two matrices, deep in a worker."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd

from raymlops.errors import TrainingError
from raymlops.train.layouts.model import outline
from raymlops.train.spec import TrainSpec

# What a layer calls the width of its inputs, and the dimension that has it.
_WIDTHS: dict[type[nn.Module], tuple[str, int]] = {
    nn.Linear: ("in_features", -1),
    nn.RNNBase: ("input_size", -1),
    _ConvNd: ("in_channels", 1),
    _BatchNorm: ("num_features", 1),
}


@contextlib.contextmanager
def telling_of_inputs(spec: TrainSpec, inputs: Sequence[torch.Tensor]) -> Iterator[None]:
    """Where torch fails inside, raises TrainingError if a layer of the model does not take the
    first rows of the data, `inputs`; until then nothing is looked for."""
    try:
        yield
    except (RuntimeError, ValueError, IndexError, TypeError) as error:
        if (told := find_misfit(spec, inputs)) is None:
            raise
        raise TrainingError(told) from error


def find_misfit(spec: TrainSpec, inputs: Sequence[torch.Tensor]) -> str | None:
    """The layer that does not take its inputs when the model is given rows, with both and the way
    out; None where all do, or the model cannot be made without its numbers."""
    if (model := outline(spec)) is None:
        return None
    misfits: list[str] = []

    def look(name: str, layer: nn.Module, given: tuple[Any, ...]) -> None:
        if given and isinstance(given[0], torch.Tensor) and (told := _misfit(layer, given[0])):
            which = f"layer {name} ({type(layer).__name__})" if name else type(layer).__name__
            misfits.append(f"its {which} {told}")

    for name, module in model.named_modules():
        module.register_forward_pre_hook(partial(look, name))
    with contextlib.suppress(Exception), torch.no_grad():  # it has failed before
        model(*(column.to("meta") for column in inputs))
    if not misfits:
        return None
    return f"{spec.model.call} does not take the rows of {spec.data.call}: {misfits[0]}"


def _misfit(layer: nn.Module, given: torch.Tensor) -> str | None:
    kind, shape = str(given.dtype).removeprefix("torch."), list(given.shape)
    if isinstance(layer, nn.Embedding | nn.EmbeddingBag):
        if not given.is_floating_point():
            return None
        return (
            f"looks up whole numbers and is given {kind} {shape}: let the data give them, as by "
            "astype('int64')"
        )
    found = next((each for of, each in _WIDTHS.items() if isinstance(layer, of)), None)
    weight = next(layer.parameters(recurse=False), None)
    if found is None or weight is None:
        return None
    if weight.dtype != given.dtype:
        wanted = str(weight.dtype).removeprefix("torch.")
        return (
            f"takes {wanted} and is given {kind} {shape}: let the data give it, as by "
            f"astype('{wanted}'), or have the model convert it"
        )
    attribute, dimension = found
    width = getattr(layer, attribute)
    has = given.shape[dimension] if given.ndim > max(dimension, 0) else None
    if has is None or has == width:
        return None
    return (
        f"takes {width} values ({attribute}) and is given {has}, of {kind} {shape}: let the data "
        f"give {width}, or the layer take {has}"
    )
