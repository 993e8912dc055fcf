"""The tensors of a training: parameters, optimizer state, random generators."""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence
from typing import Any

import torch
from torch import nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_state_dict,
    set_state_dict,
)

from raymlops.train.seat import Seat

_FLAT = StateDictOptions(flatten_optimizer_state_dict=True)  # by parameter, so that parts merge
_WHOLE = StateDictOptions(full_state_dict=True, cpu_offload=True)

# Says of every gathering of doubly sliced weights that it could be quicker; it is done once.
logging.getLogger("torch.distributed.tensor._redistribute").setLevel(logging.ERROR)


class State:
    """What this worker holds of a training's tensors, under the names of the whole model."""

    def __init__(
        self, parts: Sequence[nn.Module], optimizers: Sequence[torch.optim.Optimizer], seat: Seat
    ) -> None:
        self._pairs = tuple(zip(parts, optimizers, strict=True))
        self._seat = seat

    def tensors(self) -> dict[str, Any]:
        """What a checkpoint holds; it shares memory with the training."""
        model, optimizer = self._dicts()
        return {"model": model, "optimizer": optimizer, "random": self._generators()}

    def template(self, saved: Collection[str]) -> dict[str, Any]:
        """What to load of a checkpoint with these keys: a generator only if it was saved, for
        there may have been fewer replicas."""
        tensors = self.tensors()
        tensors["random"] = {
            name: state for name, state in tensors["random"].items() if f"random.{name}" in saved
        }
        return tensors

    def restore(self, tensors: dict[str, Any]) -> None:
        for part, optimizer in self._pairs:
            set_state_dict(
                part,
                optimizer,
                model_state_dict=tensors["model"],
                optim_state_dict=tensors["optimizer"],
                options=_FLAT,
            )
        for name, state in tensors["random"].items():
            if name.startswith("cuda"):
                torch.cuda.set_rng_state(state, self._seat.device)
            else:
                torch.set_rng_state(state)

    def weights(self) -> dict[str, Any]:
        """The parameters and buffers of the whole model on rank 0, nothing on the others."""
        whole: dict[str, Any] = {}
        for part, _ in self._pairs:
            whole |= get_model_state_dict(part, options=_WHOLE)
        return whole

    def _dicts(self) -> tuple[dict[str, Any], dict[str, Any]]:
        model: dict[str, Any] = {}
        state: dict[str, Any] = {}
        for part, optimizer in self._pairs:
            of_model, of_optimizer = get_state_dict(part, optimizer, options=_FLAT)
            model |= of_model
            state |= of_optimizer
        return model, state

    def _generators(self) -> dict[str, torch.Tensor]:
        """The states of this replica's generators, by name."""
        found = {f"cpu-{self._seat.replica}": torch.get_rng_state()}
        if self._seat.device.type == "cuda":
            found[f"cuda-{self._seat.replica}"] = torch.cuda.get_rng_state(self._seat.device)
        return found
