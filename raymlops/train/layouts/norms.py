"""Batch norms that normalise over the rows of all workers, and so have the numbers of one process.

The layers stay what they are, under their names: where torch's own code, or that of a class which
extends it, calls `batch_norm` on the statistics of a batch, it gets the answer of `normalize`.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm
from torch.overrides import TorchFunctionMode

from raymlops.train.layouts.base import Context, Rows
from raymlops.train.layouts.normalize import Peers, normalize
from raymlops.train.pipeline.costs import untouched
from raymlops.train.plan import ParallelPlan
from raymlops.train.plan.seat import Seat
from raymlops.train.spec import TrainSpec

_logger = logging.getLogger(__name__)


def why_apart(spec: TrainSpec, plan: ParallelPlan) -> str | None:
    """What keeps workers from normalising their rows together; None where nothing does."""
    if plan.server and plan.sync != "synchronous":
        return f"workers of a server that is {plan.sync} wait for nobody"
    if spec.cuda_graphs and plan.num_replicas > 1:
        return "passes that are recorded (cuda_graphs) send nothing"
    return None


def share_norms(
    spec: TrainSpec,
    model: nn.Module,
    seat: Seat,
    passes: Sequence[Rows],
    computing: Context,
    *,
    by_chance: bool,
) -> SharedNorms | None:
    """Lets batch norms of `model` normalise over the rows of all workers, and returns what has to
    be told of the rows; None where there are none, or they stay by themselves, which is warned of.

    `passes` are rows to try the model on, the same on every worker; `by_chance` says that workers
    go other ways through it than each other.
    """
    norms = {name: each for name, each in model.named_modules() if isinstance(each, _BatchNorm)}
    looking = {name: norm for name, norm in norms.items() if _looks_at_batches(norm)}
    if seat.plan.num_replicas == 1 or seat.plan.pipeline > 1 or not looking:
        return None  # a pipeline refuses them
    if (why := why_apart(spec, seat.plan)) is not None:
        _warn(looking, why, seat)
        return None
    if by_chance:
        _warn(looking, "chance decides which layers a pass goes through", seat)
        return None
    found = [_survey(model, looking, rows, computing) for rows in passes]
    if any(found[0].entered[name] != each.entered[name] for each in found for name in looking):
        _warn(looking, "rows differ in which of them they go through", seat)
        return None
    if missed := [name for name in looking if not found[0].entered[name]]:
        _warn(looking, f"the first rows do not go through {', '.join(missed)}", seat)
        return None
    shared = SharedNorms(seat)
    own = [name for name in looking if found[0].asked[name] < found[0].entered[name]]
    for name, norm in looking.items():
        if name not in own:
            shared.take(norm)
    if own:
        _warn(own, "they do without torch.nn.functional.batch_norm", seat)
    return shared


class SharedNorms:
    """The norms of one worker's model, which within `over` normalise over all workers' rows.

    Messages have a group of their own: in which order a layer's gradients are averaged and the next
    layer is normalised, workers may disagree.
    """

    def __init__(self, seat: Seat) -> None:
        self._peers = Peers(seat)
        self._asking = _Asking(self._normalize)
        self._counts: bool | None = None

    def take(self, norm: nn.Module) -> None:
        """Has `norm` normalise together with those of the other workers."""
        norm.forward = partial(self._forward, norm.forward)

    @contextmanager
    def over(self, *, counts: bool) -> Iterator[None]:
        """Within it all workers take the same passes; `counts` is false for rows that stand in."""
        self._counts = counts
        try:
            yield
        finally:
            self._counts = None

    @torch.compiler.disable  # type: ignore[untyped-decorator]  # messages belong to no graph
    def _forward(self, forward: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
        if self._counts is None:
            return forward(*arguments, **named)
        with self._asking:
            return forward(*arguments, **named)

    def _normalize(self, *arguments: Any, **named: Any) -> torch.Tensor:
        return normalize(self._peers, bool(self._counts), *arguments, **named)


class _Asking(TorchFunctionMode):
    """Within it `answer` is asked instead of `batch_norm`."""

    def __init__(self, answer: Callable[..., torch.Tensor]) -> None:
        super().__init__()
        self._answer = answer

    def __torch_function__(
        self,
        function: Callable[..., Any],
        types: Collection[type],
        arguments: tuple[Any, ...] = (),
        named: Mapping[str, Any] | None = None,
    ) -> Any:
        asked = self._answer if function is functional.batch_norm else function
        return asked(*arguments, **(named or {}))


class _Survey:
    """How often a pass entered each norm, and how often that asked for `batch_norm`."""

    def __init__(self) -> None:
        self.entered: Counter[str] = Counter()
        self.asked: Counter[str] = Counter()
        self._inside = ""

    def enter(self, name: str, *_: Any) -> None:
        self.entered[name] += 1
        self._inside = name

    def ask(self, *arguments: Any, **named: Any) -> torch.Tensor:
        self.asked[self._inside] += 1
        return functional.batch_norm(*arguments, **named)


def _survey(
    model: nn.Module, norms: Mapping[str, nn.Module], rows: Rows, computing: Context
) -> _Survey:
    """What a pass of `rows` finds; the model is as it was before."""
    found = _Survey()
    hooks = [n.register_forward_pre_hook(partial(found.enter, name)) for name, n in norms.items()]
    try:
        with untouched(model), torch.no_grad(), computing(), _Asking(found.ask):
            model(*rows.inputs)
    finally:
        for hook in hooks:
            hook.remove()
    return found


def _looks_at_batches(norm: _BatchNorm) -> bool:
    return norm.training or norm.running_mean is None


def _warn(norms: Collection[str], why: str, seat: Seat) -> None:
    if seat.rank == 0:
        _logger.warning(
            "%s normalise each worker's rows by themselves, since %s: numbers are not those of one "
            "process; take a norm within rows such as GroupNorm or LayerNorm, or put them in "
            "evaluation mode",
            ", ".join(name or "the model" for name in norms),
            why,
        )
