"""What the names in a spec stand for: loss, optimizer, schedule."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, TypeAlias

import torch
from torch.nn import functional

from raymlops.errors import TrainingError
from raymlops.train.spec.factory import Factory
from raymlops.train.spec.spec import OptimizerSpec, ScheduleSpec, factory_of

Loss: TypeAlias = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
Schedule: TypeAlias = Callable[[int], float]

_OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "sgd": torch.optim.SGD,
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
    "adagrad": torch.optim.Adagrad,
    "rmsprop": torch.optim.RMSprop,
}


def make_loss(loss: str | Factory) -> Loss:
    """The loss summed over all targets: of logits [..., classes] and classes [...], of logits and
    0/1 of one shape, or of values and values of one shape. One of a user's own raises
    TrainingError where it returns no single number as a tensor.

    Raises:
        TrainingError: the loss is a module that returns no sum, or would have to be trained itself.
    """
    if isinstance(loss, Factory):
        made = loss.make()
        if isinstance(made, torch.nn.Module):
            _require_plain_sum(loss.call, made)
        return partial(_single, loss.call, made)
    return _LOSSES[loss]


def make_optimizer(
    spec: OptimizerSpec, parameters: Iterable[torch.nn.Parameter]
) -> torch.optim.Optimizer:
    """The optimizer of `parameters`.

    Raises:
        TrainingError: it is one that runs the model itself.
    """
    if ":" in spec.name:
        made: torch.optim.Optimizer = factory_of(spec).make(parameters)
        _require_one_pass(spec.name, made)
        # torch cannot restore a group of nothing, such as that of the biases of a model without.
        made.param_groups[:] = [group for group in made.param_groups if group["params"]]
        return made
    return _OPTIMIZERS[spec.name](parameters, lr=spec.learning_rate, **spec.arguments)


def _require_one_pass(name: str, optimizer: torch.optim.Optimizer) -> None:
    closure = inspect.signature(optimizer.step).parameters.get("closure")
    if closure is not None and closure.default is inspect.Parameter.empty:
        raise TrainingError(
            f"optimizer {name} runs the model as often as it likes in a step, and a step here is "
            "one pass over a batch: take one whose step() needs no closure, such as adamw"
        )


def make_schedule(spec: ScheduleSpec, *, num_steps: int) -> Schedule:
    """The share of the learning rate at each step, counted from 0: a function without a memory, so
    that nothing of it has to be saved. One of a user's own raises TrainingError where it gives no
    share of a rate."""
    if ":" in spec.name:
        return partial(_checked_share, spec.name, Factory(call=spec.name).make())
    fall = _FALLS[spec.name]

    def share(step: int) -> float:
        if step < spec.warmup_steps:
            return (step + 1) / (spec.warmup_steps + 1)
        done = (step - spec.warmup_steps) / max(1, num_steps - spec.warmup_steps)
        return spec.final_share + (1 - spec.final_share) * fall(min(1.0, done))

    return (lambda _: 1.0) if spec == ScheduleSpec() else share


def _checked_share(call: str, schedule: Schedule, step: int) -> float:
    given: Any = schedule(step)
    try:
        share = float(given)
    except (TypeError, ValueError):
        share = math.nan
    if 0.0 <= share < math.inf:
        return share
    raise TrainingError(
        f"schedule {call} gives {given} at step {step}, counted from 0; it gives the share of the "
        "learning rate as a function of the step, a number from 0"
    )


def _require_plain_sum(call: str, loss: torch.nn.Module) -> None:
    reduction = getattr(loss, "reduction", "sum")
    if reduction != "sum":  # a mean over the rows of one piece weighs rows by how a plan cuts them
        raise TrainingError(
            f"loss {call} has reduction {reduction}, and a training divides the sum over all "
            "targets by their number itself: give it reduction sum among its arguments"
        )
    if trained := [name for name, p in loss.named_parameters() if p.requires_grad]:
        raise TrainingError(
            f"loss {call} has parameters {', '.join(trained)}, and the optimizer steps those of "
            "the model alone: put them into the model, which may return what the loss needs"
        )


def _single(call: str, loss: Loss, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    value: Any = loss(outputs, targets)
    if isinstance(value, torch.Tensor) and value.numel() == 1:
        return value
    told = (
        f"a tensor of shape {list(value.shape)}"
        if isinstance(value, torch.Tensor)
        else f"a {type(value).__name__}"
    )
    raise TrainingError(
        f"loss {call} returned {told}; it returns the sum over all targets as a tensor of one "
        "number, from which gradients go back to the outputs"
    )


def _cross_entropy(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    if _sizes(outputs.shape[:-1]) != _sizes(targets.shape):  # which may be as many numbers
        raise ValueError(
            f"the model's outputs have shape {list(outputs.shape)}, the targets "
            f"{list(targets.shape)}, and loss cross_entropy takes logits [..., classes] of classes "
            "[...]: move the classes last in the model, or give a loss of your own"
        )
    if targets.is_floating_point():
        raise ValueError(
            f"the targets are {str(targets.dtype).removeprefix('torch.')}, and loss cross_entropy "
            "takes the numbers of classes: let the data give whole ones, as by astype('int64')"
        )
    classes = targets.long()  # torch takes int64 and uint8, tables have int32 and int8
    try:
        return functional.cross_entropy(outputs.flatten(0, -2), classes.flatten(), reduction="sum")
    except IndexError as error:
        raise ValueError(
            f"targets of a batch are from {int(classes.min())} to {int(classes.max())}, and the "
            f"model tells {outputs.shape[-1]} classes apart, counted from 0: number the classes in "
            "the data so, or give the model as many outputs"
        ) from error


def _binary_cross_entropy(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    if not targets.is_floating_point():
        targets = targets.to(outputs.dtype)
    return functional.binary_cross_entropy_with_logits(outputs, targets, reduction="sum")


def _mse(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    if outputs.shape != targets.shape:  # torch would compare each value with all of the others
        raise ValueError(
            f"the model's outputs have shape {list(outputs.shape)}, the targets "
            f"{list(targets.shape)}, and loss mse takes those of one shape: reshape the targets in "
            "the data, or squeeze the outputs in the model"
        )
    return functional.mse_loss(outputs, targets, reduction="sum")


def _sizes(shape: Iterable[int]) -> list[int]:
    """Those that count: a table gives its targets as a column [rows, 1]."""
    return [size for size in shape if size != 1]


_LOSSES: dict[str, Loss] = {
    "cross_entropy": _cross_entropy,
    "binary_cross_entropy": _binary_cross_entropy,
    "mse": _mse,
}
_FALLS: dict[str, Callable[[float], float]] = {
    "constant": lambda done: 1.0,
    "linear": lambda done: 1.0 - done,
    "cosine": lambda done: 0.5 * (1.0 + math.cos(math.pi * done)),
}
