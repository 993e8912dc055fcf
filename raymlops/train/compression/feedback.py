"""Error feedback: what compression loses of a gradient is added to the next one."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from dataclasses import replace
from typing import Any

from torch import Tensor

from raymlops.train.compression.base import (
    Averaged,
    Compressor,
    Gather,
    Gradient,
    Memory,
    Scatter,
    Seat,
    Sum,
)


class Feedback:
    """A compressor that loses nothing for ever: a residual by parameter (S. P. Karimireddy et al.,
    Error Feedback Fixes SignSGD, 2019).

    Residuals wait until their step is settled: of one that is skipped, because what came of any of
    its gradients is not finite or for another reason, nothing may come back in a later one. Where
    nobody calls `settle`, a step ends when a gradient of the next comes or its state is asked for.
    """

    def __init__(self, compressor: Compressor) -> None:
        self._compressor = compressor
        self._memory = Memory()
        self._residuals: dict[str, Tensor] = {}
        self._waiting: dict[str, Tensor] = {}
        self._is_finite = True

    def compress(self, gradient: Gradient) -> Tensor:
        """The payload, uint8 [bytes], for one receiver."""
        corrected = self._corrected(gradient)
        payload = self._compressor.compress(corrected, self._memory)
        sent = self._compressor.decompress(payload, gradient.shapes)
        self._keep(corrected, Averaged(mean=sent, own=sent))
        self.settle()  # nothing is pushed of a step that is skipped
        return payload

    def average(
        self, gradient: Gradient, seat: Seat
    ) -> Generator[Sum | Gather | Scatter, Any, Tensor]:
        """The mean over workers, in rounds; every worker averages the same gradients in turn."""
        corrected = self._corrected(gradient)
        averaged = yield from self._compressor.average(corrected, self._memory, seat)
        self._keep(corrected, averaged)
        return averaged.mean

    def settle(self, *, finite: bool = True) -> None:
        """Ends a step, which was skipped unless all was `finite`."""
        if finite and self._is_finite:
            self._residuals |= self._waiting
        self._waiting, self._is_finite = {}, True

    def rescale(self, factor: float) -> None:
        """Must be told when a loss scaler changes its scale: residuals are scaled gradients."""
        self.settle()
        for residual in self._residuals.values():
            residual *= factor

    def state_dict(self) -> dict[str, Any]:
        """This worker's residuals, and what is alike on all workers; for a checkpoint."""
        self.settle()
        return {
            "step": self._memory.step,
            "tensors": dict(self._memory.tensors),
            "residuals": dict(self._residuals),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.settle(finite=False)
        self._memory = Memory(step=state["step"], tensors=dict(state["tensors"]))
        self._residuals = {name: tensor.clone() for name, tensor in state["residuals"].items()}

    def _corrected(self, gradient: Gradient) -> Gradient:
        if not self._waiting.keys().isdisjoint(gradient.names):
            self.settle()
        vector = gradient.vector.clone()
        for name, part in zip(gradient.names, gradient.parts(vector), strict=True):
            if name in self._residuals:
                part += self._residuals[name]
        return replace(gradient, vector=vector)

    def _keep(self, corrected: Gradient, averaged: Averaged) -> None:
        self._memory.step += 1
        self._is_finite &= bool(averaged.mean.isfinite().all())
        lost = corrected.vector - averaged.own
        for name, part in zip(corrected.names, corrected.parts(lost), strict=True):
            # A copy: views would keep the whole of a bucket that is no more.
            self._waiting[name] = part.clone()
