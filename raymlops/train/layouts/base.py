"""What every layout does for the loop, which does not know which one it has.

    Layout          one worker's part of a model, and how a piece of a batch goes through it
    ├── Alone       the whole model; gradients stay here, or go to a parameter server
    ├── Replicated  a copy each, gradients averaged by DDP
    ├── Averaged    a copy each, gradients averaged behind passes that are replayed or compiled
    ├── Sharded     a slice of every parameter each, by FSDP2; copies of that are HSDP
    └── Staged      some of the layers each, by a pipeline schedule

Tensor parallelism is no layout of its own: `slicing` replaces layers before any of them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import torch
from torch import nn

from raymlops.train.compression import Compression
from raymlops.train.spec.recipe import Loss

if TYPE_CHECKING:
    from raymlops.train.layouts.norms import SharedNorms

Context: TypeAlias = Callable[[], AbstractContextManager[object]]
Tell: TypeAlias = Callable[[torch.Tensor], object]


@dataclass(frozen=True, kw_only=True)
class Rows:
    """The arguments of the model, its targets, whether they count or only stand in, and whether
    they are of a full batch."""

    inputs: tuple[torch.Tensor, ...]
    targets: torch.Tensor
    counts: bool = True
    full: bool = True

    @property
    def weight(self) -> float:
        """By what their loss is multiplied."""
        return 1.0 if self.counts else 0.0


class Layout(ABC):
    """One worker's part of a model.

    `parts` are the modules this worker holds parameters of: one, or its stages of a pipeline. Their
    parameters are named as in the whole model. `idle_s` are the seconds of the last `backward` in
    which this worker waited for the stages of others, `exchange_s` those of a recent batch in which
    parameters or gradients were sent and nothing was computed, where that is known. `compression`
    is what averages gradients in fewer bytes, None where they are sent as they are. With
    `keeps_gradients` a gradient is cleared by setting it to zero, where it lies. `unreached` names
    the parameters to which the loss of the first rows hands no gradient, where workers together
    have to know; `wavering` those to which it does of some rows or draws, where a server has to.
    """

    parts: Sequence[nn.Module]
    idle_s: float = 0.0
    exchange_s: float = 0.0
    compression: Compression | None = None
    keeps_gradients: bool = False
    unreached: Collection[str] = ()
    wavering: Collection[str] = ()

    @abstractmethod
    def backward(self, rows: Rows, *, scale: float, last: bool, tell: Tell) -> None:
        """Adds the gradients of `scale` times the summed loss. That sum, unscaled, it tells once,
        before it computes gradients if it can: what others have to know of it is on its way then.

        Every worker calls it equally often. `last` says that the batch ends with these rows:
        gradients are averaged over replicas then, and not before.
        """

    @abstractmethod
    def evaluate(self, rows: Rows) -> torch.Tensor:
        """The summed loss, without gradients."""


class Whole(Layout):
    """A layout in which every worker runs the model from end to end.

    `computing` is entered around the forward pass (autocast), `around` around both passes; `norms`
    are told which of the rows count.
    """

    def __init__(
        self,
        model: nn.Module,
        loss: Loss,
        *,
        computing: Context = nullcontext,
        around: Context = nullcontext,
        norms: SharedNorms | None = None,
        unreached: Collection[str] = (),
        wavering: Collection[str] = (),
    ) -> None:
        self.parts = (model,)
        self.unreached = unreached
        self.wavering = wavering
        self._model = model
        self._loss = loss
        self._computing = computing
        self._around = around
        self._norms = norms

    def backward(self, rows: Rows, *, scale: float, last: bool, tell: Tell) -> None:
        with self._around(), self._normalizing(rows), self._sending(last):
            loss = self._forward(rows)
            tell(_plain(loss.detach()))
            torch.autograd.backward(loss * scale)

    @torch.no_grad()
    def evaluate(self, rows: Rows) -> torch.Tensor:
        with self._around(), self._normalizing(rows):
            return _plain(self._forward(rows))

    def _forward(self, rows: Rows) -> torch.Tensor:
        with self._computing():
            return self._loss(self._model(*rows.inputs), rows.targets) * rows.weight

    def _normalizing(self, rows: Rows) -> AbstractContextManager[object]:
        """To be entered around both passes: what is computed again in the second looks, too."""
        return nullcontext() if self._norms is None else self._norms.over(counts=rows.counts)

    def _sending(self, last: bool) -> AbstractContextManager[object]:
        """Within it a backward pass averages gradients over replicas, if it is the last."""
        return nullcontext()


def _plain(loss: torch.Tensor) -> torch.Tensor:
    from torch.distributed.tensor import DTensor

    return loss.full_tensor() if isinstance(loss, DTensor) else loss
