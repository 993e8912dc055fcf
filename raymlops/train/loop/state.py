"""The tensors of a training: parameters, optimizer state, random generators, residuals."""

from __future__ import annotations

import logging
from collections.abc import Container, Iterator, Mapping, Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)

from raymlops.train import generators
from raymlops.train.compression import Compression, saved
from raymlops.train.loop.named import NamedPart
from raymlops.train.pipeline.passage import unwrapped
from raymlops.train.plan.seat import Seat

_FLAT = StateDictOptions(flatten_optimizer_state_dict=True)  # by parameter, so that parts merge
_WHOLE = StateDictOptions(full_state_dict=True, cpu_offload=True)  # on rank 0 alone
_GATHERED = StateDictOptions(full_state_dict=True)

# Says of every gathering of doubly sliced weights that it could be quicker; it is done once.
logging.getLogger("torch.distributed.tensor._redistribute").setLevel(logging.ERROR)


class State:
    """What this worker holds of a training's tensors, under the names of the whole model.

    `saved` are its parts with their optimizers; a part that only computes, as a stage of a pipeline
    may, has none.
    """

    def __init__(
        self,
        saved: Sequence[tuple[nn.Module, torch.optim.Optimizer | None]],
        seat: Seat,
        compression: Compression | None = None,
    ) -> None:
        self._parts = tuple(NamedPart(part, opt) for part, opt in saved if part.state_dict())
        self._seat = seat
        self._compression = compression

    def tensors(self) -> dict[str, Any]:
        """What a checkpoint holds; it shares memory with the training."""
        model: dict[str, Any] = {}
        optimizer: dict[str, Any] = {}
        for part in self._parts:
            model |= part.model()
            optimizer |= part.state()
        tensors = {"model": model, "optimizer": optimizer, "random": self._generators()}
        if self._compression is not None:
            tensors["compression"] = saved.to_tensors(self._compression, self._seat.replica)
        return tensors

    def template(self, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Any]:
        """What to load of a checkpoint that holds tensors of these shapes, by key: of generators
        and residuals what was saved, for there may have been fewer replicas, and no optimizer state
        of parameters that had none yet."""
        tensors = self.tensors()
        saved_state = {key.removeprefix("optimizer.") for key in shapes}
        for _, _, state in self._unsaved(saved_state):
            for key in state:
                tensors["optimizer"].pop(key, None)
        tensors["random"] = {
            name: state for name, state in tensors["random"].items() if f"random.{name}" in shapes
        }
        if self._compression is not None:
            of_compression = {
                key.removeprefix("compression."): shape
                for key, shape in shapes.items()
                if key.startswith("compression.")
            }
            tensors["compression"] = saved.template(of_compression, self._seat.replica)
        return tensors

    def restore(self, tensors: dict[str, Any]) -> None:
        unsaved = list(self._unsaved(tensors["optimizer"]))
        # torch sets the state of all parameters or of none.
        states = {**tensors["optimizer"]}
        for _, _, state in unsaved:
            states |= state
        for each in self._parts:
            # Within DDP torch sets of shared modules the first name alone.
            bare = unwrapped(each.part)
            model = {name: tensors["model"][name] for name in get_model_state_dict(bare)}
            set_model_state_dict(bare, model)
            if each.optimizer is not None:
                set_optimizer_state_dict(each.part, each.optimizer, states, options=_FLAT)
                _make_momentum_sparse(each.part, each.optimizer)
        for optimizer, parameter, _ in unsaved:
            del optimizer.state[parameter]
        others: generators.States = {}
        for name, state in tensors["random"].items():
            kind = name.partition("-")[0]
            if kind == "cpu":
                torch.set_rng_state(state)
            elif kind in generators.NAMES:
                others[kind] = state.numpy()
            else:
                self._seat.device.set_generator_state(state)
        generators.set_states(others)
        if self._compression is not None:
            saved.restore(self._compression, tensors["compression"], self._seat.replica)

    def weights(self) -> dict[str, Any]:
        """The parameters and buffers of the whole model on rank 0, nothing on the others."""
        whole: dict[str, Any] = {}
        in_pipeline = self._seat.plan.pipeline > 1
        for each in self._parts:
            whole |= get_model_state_dict(each.part, options=_GATHERED if in_pipeline else _WHOLE)
        return self._merged(whole) if in_pipeline else whole

    def _merged(self, mine: dict[str, Any]) -> dict[str, Any]:
        """The state of all stages on rank 0, sent by the ranks of its own pipeline."""
        plan, mesh = self._seat.plan, self._seat.mesh
        assert mesh is not None, "a plan with a pipeline has a mesh"
        rank_in_replica = self._seat.rank % (plan.num_workers // plan.pipeline)
        if rank_in_replica != 0:
            return {}
        is_first = self._seat.rank == 0
        found: list[Any] | None = [None] * plan.pipeline if is_first else None
        mine = {n: v.cpu() if isinstance(v, torch.Tensor) else v for n, v in mine.items()}
        dist.gather_object(mine, found, group=mesh.get_group("pipeline"), group_dst=0)
        return {name: tensor for state in found or () for name, tensor in state.items()}

    def _unsaved(
        self, saved: Container[str]
    ) -> Iterator[tuple[torch.optim.Optimizer, nn.Parameter, dict[str, Any]]]:
        """The parameters none of whose state is among `saved`, with their optimizer and the state
        torch has made them to be loaded into.

        An optimizer has no state of a parameter before its first step, and that may be still to
        come: nothing was finite so far, or no gradient has reached the parameter.
        """
        for part in self._parts:
            if part.optimizer is None:
                continue
            for parameter, name in part.parameters.items():
                made = part.optimizer.state.get(parameter, {})
                state = {f"state.{name}.{what}": value for what, value in made.items()}
                told = [each for each, value in state.items() if isinstance(value, torch.Tensor)]
                if told and not any(each in saved for each in told):
                    yield part.optimizer, parameter, state

    def _generators(self) -> dict[str, torch.Tensor]:
        """The states of this worker's generators, by name; its tensor group draws the same."""
        mine = str(self._seat.replica)
        if stage := self._seat.plan.coordinates(self._seat.rank)["pipeline"]:
            mine += f"-{stage}"  # it has drawn other numbers than the stages before
        found = {f"cpu-{mine}": torch.get_rng_state()}
        for kind, numbers in generators.states().items():
            found[f"{kind}-{mine}"] = torch.from_numpy(numbers)
        device = self._seat.device
        if (state := device.generator_state()) is not None:
            found[f"{device.where.type}-{mine}"] = state
        return found


def _make_momentum_sparse(part: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """As torch's SGD has it of sparse gradients: it cannot add a dense one to them."""
    if not isinstance(optimizer, torch.optim.SGD):
        return
    for module in part.modules():
        if isinstance(module, nn.Embedding | nn.EmbeddingBag) and module.sparse:
            state = optimizer.state.get(module.weight, {})
            if (momentum := state.get("momentum_buffer")) is not None:
                state["momentum_buffer"] = momentum.to_sparse(1)
