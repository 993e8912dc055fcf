"""A parameter server steps the parameters; workers send gradients and fetch what becomes of them.

    worker 0   backward ─ push ─┐            ┌─ pull ─ forward
    worker 1   backward ─ push ─┤ optimizer  ├─ pull ─ forward
                                └─ shards ───┘

Rank 0 starts the server with the parameters and optimizer state it has, and brings both back into
its model and its torch optimizer where a checkpoint is due: so they are saved under the names, and
in the form, of every other plan.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from functools import partial
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from raymlops.errors import PlanError, TrainingError
from raymlops.train.compression import make_compressor
from raymlops.train.loop.progress import Progress
from raymlops.train.plan import ParallelPlan
from raymlops.train.plan.seat import Seat
from raymlops.train.server.client import Client
from raymlops.train.server.optimizers import Optimizer
from raymlops.train.server.snapshot import Snapshot
from raymlops.train.server.sync import Asynchronous, Stale, Sync, Synchronous
from raymlops.train.spec import TrainSpec
from raymlops.train.spec.recipe import Schedule, make_optimizer
from raymlops.train.updaters.base import Updater
from raymlops.train.updaters.counterparts import (
    COUNTING,
    STATES,
    ScheduledRate,
    counterpart,
)
from raymlops.train.updaters.demanding import demands_of
from raymlops.train.updaters.packing import Packing
from raymlops.train.updaters.resting import Resting
from raymlops.train.updaters.tables import Lookups, find_tables


class Server(Protocol):
    """What a worker needs of a server that was started; it can be pickled."""

    def client(self, *, worker: int) -> Client: ...

    def stop(self) -> None: ...


class StartServer(Protocol):
    """Starts a server, as `ParameterServer.start` does."""

    def __call__(
        self,
        first: Snapshot,
        optimizer: Optimizer,
        *,
        sync: Sync,
        num_shards: int,
        tables: Collection[str],
        clip_norm: float | None,
    ) -> Server: ...


class Served(Updater):
    """One worker of a server that runs within `running`.

    Under "synchronous" all workers take one step on the mean of their gradients, whose norm the
    shards bound. In the other modes each gradient is a step of its own, bounded before it is
    pushed, and what a worker says of a batch's loss is what it saw of it, until they meet.

    What the loss does not reach, or in some passes only, is a matter of `Resting`.
    """

    _packing: Packing | None = None
    _room: Mapping[str, torch.Tensor] | None = None

    def __init__(
        self,
        spec: TrainSpec,
        model: nn.Module,
        seat: Seat,
        schedule: Schedule,
        *,
        num_steps: int,
        start: StartServer,
        unreached: Collection[str] = (),
        wavering: Collection[str] = (),
    ) -> None:
        super().__init__(spec, (model,), seat, schedule)
        if problems := tuple(demands_of(spec, model).problems(seat.plan)):
            raise PlanError(str(seat.plan), problems, ())
        self._client: Client
        self._model = model
        self._num_steps = num_steps
        self._start = start
        self._tables = find_tables(model)
        self._lookups: list[Lookups] = []
        trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
        self._resting = Resting(
            spec.optimizer,
            trained,
            seat,
            tables=self._tables,
            unreached=unreached,
            wavering=wavering,
        )
        left_out = self._resting.left_out
        self._trained = {name: p for name, p in trained.items() if name not in left_out}
        self._dense = {name: p for name, p in self._trained.items() if name not in self._tables}
        self._optimizer = make_optimizer(spec.optimizer, model.parameters())
        self._states = STATES[type(counterpart(spec.optimizer, 1.0))]
        if (compressor := make_compressor(spec.communication)) is not None:
            shapes = {name: tuple(p.shape) for name, p in self._dense.items()}
            self.compression = self._packing = Packing(compressor, shapes)
        if self._is_mean:
            self._clip_norm = None
        self._counts = type(counterpart(spec.optimizer, 1.0)) in COUNTING
        self.saved = [(model, self._optimizer)] if seat.rank == 0 else []

    @contextlib.contextmanager
    def running(self, step: int) -> Iterator[None]:
        mine = self._started(step) if self._seat.rank == 0 else None
        try:
            server: Server = self._seat.told(mine)
            with (
                server.client(worker=self._seat.rank) as self._client,
                self._pulling_rows(),
                self._lending_room(),
            ):
                self._pull()
                self._seat.align(self._model.buffers())  # rank 0 alone loads a checkpoint
                self._seat.meet()  # nobody runs ahead of one who has not joined
                yield
            self._seat.meet()  # clients leave a server that is there
        finally:
            if mine is not None:
                mine.stop()

    def begin_total(self, loss_sum: torch.Tensor) -> Callable[[], float]:
        if self._in_step:
            return super().begin_total(loss_sum)
        return lambda: float(loss_sum) * self._seat.plan.data

    def num_summed(self, num_rows: int) -> int:
        if self._in_step:
            return num_rows
        num_workers = self._seat.plan.data
        return num_workers * math.ceil(num_rows / num_workers)  # its own, which stand for all

    def update(self, loss_sum: float, progress: Progress) -> tuple[float | None, bool]:
        self.exchange_s = 0.0
        norm, finite = super().update(loss_sum, progress)
        if not self._is_mean:
            return norm, finite
        return self._client.norm if finite else None, finite

    def gather(self, loss_sum: float) -> float:
        self._client.flush()
        (together,) = self._seat.total([loss_sum])  # from here on nobody pushes
        self._pull()
        if self._seat.rank == 0:
            self._keep(self._client.snapshot())
        self._seat.meet()
        return loss_sum if self._in_step else together / self._seat.plan.data

    def _apply(self, step: int) -> None:
        self._resting.look(step)
        self.learning_rate(step)  # fails here rather than in a shard, which nobody would hear of
        started = time.perf_counter()
        room = self._lent()
        for name, parameter in self._dense.items():
            if parameter.grad is not room[name]:
                _fill(room[name], parameter.grad)
        self._give_back()  # it is the server's until it is lent again
        self._client.push({name: of.numpy() for name, of in room.items()}, packing=self._packing)
        for lookups in self._lookups:
            lookups.push()
        self._pull()
        self.exchange_s = time.perf_counter() - started

    def _is_finite(self, loss_sum: float, norm: float | None) -> bool:
        finite = super()._is_finite(loss_sum, norm)
        if not self._in_step:
            return finite
        (num_broken,) = self._seat.total([0.0 if finite else 1.0])
        return num_broken == 0.0

    @property
    def _in_step(self) -> bool:
        return self._seat.plan.sync == "synchronous"

    @property
    def _is_mean(self) -> bool:
        """Whether a step is taken on the mean of several workers' gradients."""
        return self._in_step and self._seat.plan.data > 1

    def _started(self, step: int) -> Server:
        plan, spec = self._seat.plan, self._spec
        snapshot = self._snapshot()
        rate = ScheduledRate(
            learning_rate=spec.optimizer.learning_rate,
            schedule=spec.schedule,
            num_steps=self._num_steps,
            first=snapshot.version,
            first_step=step,
            updates_per_step=1 if self._in_step else plan.data,
        )
        return self._start(
            snapshot,
            counterpart(spec.optimizer, rate),
            sync=_sync(plan),
            num_shards=plan.server,
            tables=self._tables,
            clip_norm=self._spec.clip_norm if self._is_mean else None,
        )

    def _pull(self) -> None:
        for name, values in self._client.pull().items():
            _write(self._dense[name], values)

    @contextlib.contextmanager
    def _pulling_rows(self) -> Iterator[None]:
        with contextlib.ExitStack() as undo:
            self._lookups = [Lookups(self._client, *each) for each in self._tables.items()]
            for lookups in self._lookups:
                undo.callback(lookups.close)
            yield

    @contextlib.contextmanager
    def _lending_room(self) -> Iterator[None]:
        """Moves each gradient into the server's room as soon as it is computed, while it is in a
        cache: what follows of a batch is added up there, and looked at where it lies."""

        def move(name: str, parameter: torch.Tensor) -> None:
            room, gradient = self._lent()[name], parameter.grad
            if gradient is not None and not gradient.is_sparse and gradient is not room:
                parameter.grad = room.copy_(gradient)

        with contextlib.ExitStack() as undo:
            undo.callback(self._give_back)
            for name, parameter in self._dense.items():
                if parameter.device.type == "cpu":
                    moving = partial(move, name)
                    hook = parameter.register_post_accumulate_grad_hook(moving)  # type: ignore[no-untyped-call]
                    undo.callback(hook.remove)
            yield

    def _give_back(self) -> None:
        """Leaves no gradient in room that goes with the client."""
        for name, room in (self._room or {}).items():
            if self._dense[name].grad is room:
                self._dense[name].grad = None
        self._room = None

    def _lent(self) -> Mapping[str, torch.Tensor]:
        """Where the gradients of the next push are to lie."""
        if self._room is None:
            arrays = self._client.buffers()
            self._room = {name: torch.from_numpy(array) for name, array in arrays.items()}
        return self._room

    def _snapshot(self) -> Snapshot:
        """What model and optimizer of this worker hold."""
        kept = {name: self._optimizer.state.get(p, {}) for name, p in self._trained.items()}
        counted = {float(state["step"]) for state in kept.values() if "step" in state}
        if len(counted) > 1:
            raise TrainingError(
                f"some parameters took {min(counted):g} steps, others {max(counted):g}; a server "
                "counts those of all together: go on under a plan without one"
            )
        states = tuple(
            {name: _array(kept[name].get(what), like=p) for name, p in self._trained.items()}
            for what in self._states
        )
        return Snapshot(
            parameters={name: _array(p, like=p) for name, p in self._trained.items()},
            states=states,
            version=int(counted.pop()) if counted else 0,
        )

    def _keep(self, snapshot: Snapshot) -> None:
        """The inverse of `_snapshot`."""
        for name, parameter in self._trained.items():
            _write(parameter, snapshot.parameters[name])
            named = zip(self._states, snapshot.states, strict=True)
            state = {what: torch.tensor(of[name], device=parameter.device) for what, of in named}
            if self._counts:
                state["step"] = torch.tensor(float(snapshot.version))
            if state:
                self._optimizer.state[parameter] = state


def _sync(plan: ParallelPlan) -> Sync:
    if plan.sync == "synchronous":
        return Synchronous(workers=plan.data)
    return Stale(bound=plan.staleness) if plan.sync == "stale" else Asynchronous()


def _fill(room: torch.Tensor, gradient: torch.Tensor | None) -> None:
    """Copies it there, from whatever device; zeros where there is none."""
    if gradient is None:
        room.zero_()
    else:
        room.copy_(gradient.detach().to_dense())


def _array(tensor: torch.Tensor | None, *, like: torch.Tensor) -> NDArray[Any]:
    """The numbers of a tensor, zeros where it holds none; zeros of another one where there is
    none."""
    found = torch.zeros_like(like) if tensor is None else tensor
    array: NDArray[Any] = found.detach().to_dense().cpu().numpy()
    return array


def _write(parameter: torch.Tensor, values: NDArray[Any]) -> None:
    if parameter.device.type == "cpu":
        np.copyto(parameter.detach().numpy(), values)
    else:
        parameter.detach().copy_(torch.tensor(values))
