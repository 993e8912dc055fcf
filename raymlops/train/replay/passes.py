"""The passes of a model, replayed where they can be."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import torch
from torch import nn

from raymlops.errors import TrainingError
from raymlops.train.replay.base import Form, Recorder, decide, form_of

if TYPE_CHECKING:
    from raymlops.train.devices import Device

Passes: TypeAlias = Callable[[tuple[torch.Tensor, ...], torch.Tensor], torch.Tensor]
"""Adds the gradients of rows (inputs and targets) and of a scale on the loss; the summed loss,
unscaled and detached."""

_ZERO = torch.zeros(())

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Recording:
    """Passes over rows and a scale that stay where they are."""

    rows: tuple[torch.Tensor, ...]
    scale: torch.Tensor
    again: Callable[[], torch.Tensor]


class Replays:
    """`passes` of `model`, recorded by form.

    Gradients must stay where they lie between the calls: a recording adds to them there.

    Raises:
        TrainingError: the model makes gradients that have no place to stay.
    """

    def __init__(
        self, model: nn.Module, passes: Passes, device: Device, recorder: Recorder
    ) -> None:
        sparse = [name for name, part in model.named_modules() if getattr(part, "sparse", False)]
        if sparse:
            raise TrainingError(
                f"cuda_graphs is true, and {', '.join(sparse)} makes sparse gradients, whose size "
                "changes with the rows: set sparse=False there, or cuda_graphs to false"
            )
        self._model = model
        self._passes = passes
        self._device = device
        self._recorder = recorder
        self._recordings: dict[Form, _Recording] = {}
        self._told: set[Form] = set()  # what was warned of

    def takes(self, rows: tuple[torch.Tensor, ...], *, full: bool, counts: bool) -> bool:
        """Whether rows are to be replayed; see `decide`."""
        form = form_of(rows)
        if decide(form, self._recordings, full=full, counts=counts) != "run":
            return True
        if full and form not in self._told:
            self._told.add(form)
            _logger.warning(
                "rows of shape %s run one operation at a time: %d other shapes are recorded, which "
                "is the most",
                form[0][0],
                len(self._recordings),
            )
        return False

    def replay(self, rows: tuple[torch.Tensor, ...], scale: float) -> torch.Tensor:
        """What `passes` returns, in memory of its own; recorded first, if it is not yet."""
        form = form_of(rows)
        if form not in self._recordings:
            self._recordings[form] = self._record(rows)
        recording = self._recordings[form]
        for lying, given in zip(recording.rows, rows, strict=True):
            lying.copy_(given)
        recording.scale.fill_(scale)
        return recording.again().clone()

    def _record(self, rows: tuple[torch.Tensor, ...]) -> _Recording:
        lying = tuple(column.clone() for column in rows)
        # Changes from step to step: fp16 moves it, and a batch's part of the rows is in it.
        scale = torch.ones((), dtype=torch.float64, device=lying[0].device)
        with self._unchanged():
            again = self._recorder.record(lambda: self._passes(lying, scale))
        return _Recording(lying, scale, again)

    @contextmanager
    def _unchanged(self) -> Iterator[None]:
        """Puts back, where they lie, gradients, buffers and random numbers that recording moved."""
        buffers = [(buffer, buffer.clone()) for buffer in self._model.buffers()]
        before = {
            parameter: parameter.grad.clone()
            for parameter in self._model.parameters()
            if parameter.grad is not None
        }
        host, own = torch.get_rng_state(), self._device.generator_state()
        yield
        for buffer, value in buffers:
            buffer.copy_(value)
        for parameter in self._model.parameters():
            if parameter.grad is not None:
                parameter.grad.copy_(before.get(parameter, _ZERO))
        torch.set_rng_state(host)
        if own is not None:
            self._device.set_generator_state(own)
