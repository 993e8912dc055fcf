"""What a training pass changes of a model by itself: running means, codebooks, weights that follow.

                   copies (data)                 shards, slices, stages
parameters         each copy does alike          lost with a passing copy: refused
buffers            alike, unless rows decide:    once a microbatch: warned of
                   warned of
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from raymlops.errors import TrainingError
from raymlops.train.checks import shown
from raymlops.train.layouts.base import Context, Rows
from raymlops.train.layouts.model import build_model
from raymlops.train.loop.buffers import copy_buffers
from raymlops.train.pipeline.costs import untouched
from raymlops.train.plan import ParallelPlan
from raymlops.train.spec import TrainSpec

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Changes:
    """Names of what a pass changed; `by_rows` are the buffers that other rows changed otherwise."""

    parameters: tuple[str, ...]
    buffers: tuple[str, ...]
    by_rows: tuple[str, ...]

    def require_kept(self, plan: ParallelPlan, model: nn.Module) -> None:
        """Raises TrainingError where the plan would lose what a pass does to parameters."""
        changed = [model.get_parameter(name) for name in self.parameters]
        if max(plan.shard, plan.tensor, plan.pipeline) > 1 and changed:
            why = "which shard, tensor and pipeline would lose with a passing copy"
        elif plan.server and any(parameter.requires_grad for parameter in changed):
            why = "which a server would not hear of, and overwrite"
        else:
            return
        raise TrainingError(
            f"the forward of {type(model).__name__} changes its parameters "
            f"{shown(self.parameters)}, {why}: use data alone, or make them buffers"
        )

    def warn(self, plan: ParallelPlan, model: nn.Module) -> None:
        """Warns where buffers will not be those of one process; of layers that normalise over rows
        there is a warning of its own."""
        norms = {name for name, module in model.named_modules() if isinstance(module, _BatchNorm)}
        others = [name for name in self.buffers if name.rpartition(".")[0] not in norms]
        apart = [name for name in others if name in self.by_rows]
        if plan.pipeline > 1 and others:
            _logger.warning(
                "a pass changes %s, once a microbatch in a pipeline, also where rows stand in: "
                "numbers are not those of one process",
                shown(others),
            )
        elif plan.num_replicas > 1 and apart:
            _logger.warning(
                "a pass changes %s by its rows, in each worker by those of its own, and those of "
                "worker 0 are kept: numbers are not those of one process",
                shown(apart),
            )


def find_changes(
    spec: TrainSpec, model: nn.Module, passes: Sequence[Rows], computing: Context
) -> Changes:
    """What training passes of each of `passes` change. The model is as it was before."""
    marks = _marks(model)
    (before,) = copy_buffers([model])
    after: list[Mapping[str, torch.Tensor]] = []
    for rows in passes:
        with untouched(model), torch.no_grad(), computing():
            model(*rows.inputs)
            after += copy_buffers([model])
    parameters = tuple(name for name, mark in _marks(model).items() if mark != marks[name])
    if parameters:  # rather than a copy of all, in case of these
        _put_first_weights(spec, model, parameters)
    alike = [
        name
        for name, buffer in before.items()
        if all(name in found and found[name].shape == buffer.shape for found in after)
    ]
    return Changes(
        parameters=parameters,
        buffers=tuple(
            n for n in alike if not all(_is_same(found[n], before[n]) for found in after)
        ),
        by_rows=tuple(
            n for n in alike if not all(_is_same(found[n], after[0][n]) for found in after)
        ),
    )


@contextmanager
def keeping(model: nn.Module, parameters: Collection[str]) -> Iterator[None]:
    """Passes inside leave `parameters` as they were."""
    copies = {name: model.get_parameter(name).detach().clone() for name in parameters}
    try:
        yield
    finally:
        for name, copy in copies.items():
            model.get_parameter(name).detach().copy_(copy)


def _put_first_weights(spec: TrainSpec, model: nn.Module, parameters: Collection[str]) -> None:
    first = build_model(spec)
    for name in parameters:
        model.get_parameter(name).detach().copy_(first.get_parameter(name).detach())


def _marks(model: nn.Module) -> dict[str, tuple[str, int, int]]:
    """The sum of each parameter, how often torch saw it changed, and where it lies. What is changed
    by way of `.data` leaves no trace but numbers; weights that follow others may begin as these."""
    return {
        name: (_sum(p.detach()).hex(), p._version, p.data_ptr())
        for name, p in model.named_parameters()
    }


def _sum(tensor: torch.Tensor) -> float:
    numbers = torch.view_as_real(tensor) if tensor.is_complex() else tensor
    return float(numbers.sum(dtype=torch.float64))


def _is_same(one: torch.Tensor, other: torch.Tensor) -> bool:
    """Bit by bit, since what is no number equals nothing."""
    return torch.equal(one.flatten().view(torch.uint8), other.flatten().view(torch.uint8))
