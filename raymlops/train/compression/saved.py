"""The state of a compression as a checkpoint holds it: a tensor a name, flat.

    step                       how often was averaged          alike on all workers, saved once
    memory.PARAMETER           what the compressor keeps       alike on all workers, saved once
    residuals.N.PARAMETER      what replica N has not sent     its own

A training that goes on with more replicas gives the new ones no residuals, as at the start; with
fewer, what those that are gone had not sent is lost.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import torch

_STEP, _MEMORY, _RESIDUALS = "step", "memory.", "residuals."


class Compression(Protocol):
    """One worker's part in sending gradients in fewer bytes."""

    @property
    def sent_bytes(self) -> int:
        """What this worker has sent: payloads, without the headers of the network."""
        ...

    def settle(self, *, finite: bool = True) -> None:
        """Ends a step; of one in which not all was `finite`, and which is skipped, nothing is kept
        to be sent later."""
        ...

    def rescale(self, factor: float) -> None:
        """Must be told when a loss scaler changes its scale by `factor`."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """This worker's part of a checkpoint: each worker has residuals of its own."""
        ...

    def load_state_dict(self, state: Mapping[str, Any]) -> None: ...

    def close(self) -> None:
        """Nothing is sent any more."""
        ...


def to_tensors(compression: Compression, replica: int) -> dict[str, torch.Tensor]:
    """The state; it may share memory with the training."""
    state = compression.state_dict()
    return {
        _STEP: torch.tensor(state["step"]),
        **{f"{_MEMORY}{name}": tensor for name, tensor in state["tensors"].items()},
        **{f"{_own(replica)}{name}": tensor for name, tensor in state["residuals"].items()},
    }


def template(shapes: Mapping[str, tuple[int, ...]], replica: int) -> dict[str, torch.Tensor]:
    """What of a saved state, given by shapes, this replica loads."""
    wanted = (_MEMORY, _own(replica))
    found = {name: torch.empty(shape) for name, shape in shapes.items() if name.startswith(wanted)}
    return found | ({_STEP: torch.tensor(0)} if _STEP in shapes else {})


def restore(compression: Compression, tensors: Mapping[str, torch.Tensor], replica: int) -> None:
    """Goes on from a state; from none, all stays as it is."""
    if tensors:
        state: dict[str, Any] = {
            "step": int(tensors[_STEP]),
            "tensors": _below(_MEMORY, tensors),
            "residuals": _below(_own(replica), tensors),
        }
        compression.load_state_dict(state)


def _own(replica: int) -> str:
    return f"{_RESIDUALS}{replica}."


def _below(prefix: str, tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}
