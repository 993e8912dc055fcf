"""A shard as a Ray actor: the loop in a thread, and a way in for workers of other nodes."""

from __future__ import annotations

import asyncio
import logging
import os
import threading
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, TypeVar

import numpy as np
import ray
from numpy.typing import NDArray

from raymlops.errors import LostShardError
from raymlops.train.server.arena import Arena, NodeShare
from raymlops.train.server.block import Entry, Push
from raymlops.train.server.events import Counters, Measure, Pull
from raymlops.train.server.keeper import keeper_name
from raymlops.train.server.memory import SharedMemory
from raymlops.train.server.payload import Payload
from raymlops.train.server.replica import Follower
from raymlops.train.server.service import Service
from raymlops.train.server.settings import ServerSpec
from raymlops.train.server.shard import make_shard

_logger = logging.getLogger(__name__)

Result = TypeVar("Result")


class ShardActor:
    """Shard `index` of a server, meant to run on the node `home`.

    Every method may be called again: it counts once.
    """

    def __init__(self, spec: ServerSpec, share: NodeShare, index: int, home: str) -> None:
        import torch

        torch.set_num_threads(1)  # shards are what runs in parallel
        memory = _memory(spec, share, home)
        shard = make_shard(spec, share, index, memory)
        self._shard = shard
        self._follower: Follower | None = None
        if spec.settings.durability == "node":
            self._follower = Follower(spec, index, shard)
            shard.witness = self._follower.follow
        if ray.get_runtime_context().was_current_actor_reconstructed and not shard.roster.is_loaded:
            # Whoever asks is told at once; an empty shard would have them wait.
            raise LostShardError(
                f"the parameters of shard {index} were lost with all processes that held them"
            )
        self._service = Service(shard, index=index, arena=memory, spec=spec)
        threading.Thread(target=self._serve, name=f"shard-{index}", daemon=True).start()

    @ray.method
    async def load(self, first: Sequence[Sequence[NDArray[Any]]], version: int) -> None:
        """Puts the first parameters, and states of the optimizer, into place, unless that was
        done."""

        def load() -> None:
            self._shard.load(first, version)
            if self._follower is not None:
                self._follower.restore()

        await self._do(load)

    @ray.method
    async def join(self, worker: int, incarnation: int) -> tuple[int, ...]:
        """A process becomes the worker; its last applied push to each block."""

        def join() -> tuple[int, ...]:
            sequences = self._service.join(worker, incarnation)
            if self._follower is not None:
                self._follower.enrol()
            return sequences

        return await self._do(join)

    @ray.method
    async def contact(self, worker: int, incarnation: int) -> None:
        """The worker, which has joined, lives."""
        await self._do(partial(self._service.contact, worker, incarnation))

    @ray.method
    async def push(
        self, worker: int, incarnation: int, block: int, sequence: int, gradient: Any
    ) -> int:
        """Returns `sequence` once it is applied."""
        if isinstance(gradient, Payload):
            gradient = gradient.gradient()
        push = Push(worker=worker, sequence=sequence, gradient=gradient)

        def take() -> Any:
            self._service.contact(worker, incarnation)
            return self._service.push(block, push)

        return int(await asyncio.wrap_future(await self._do(take)))

    @ray.method
    async def pull(
        self,
        worker: int,
        incarnation: int,
        block: int,
        sequence: int,
        keys: NDArray[np.int64] | None,
    ) -> tuple[int, NDArray[Any]]:
        """A version that the mode allows after push `sequence`: all of it, or the rows `keys`."""
        asked = Pull(worker=worker, block=block, sequence=sequence)

        def ask() -> Any:
            self._service.contact(worker, incarnation)
            return self._service.pull(asked)

        version = int(await asyncio.wrap_future(await self._do(ask)))

        def copy() -> NDArray[Any]:
            source = self._shard.blocks[block].buffer(version)[0]
            taken: NDArray[Any] = source.copy() if keys is None else source[keys]
            self._shard.release(worker, block)
            return taken

        return version, await self._do(copy)

    @ray.method
    async def measure(self, worker: int, incarnation: int, sequence: int) -> tuple[int, float]:
        """Version and value of a Measured."""

        def ask() -> Any:
            self._service.contact(worker, incarnation)
            return self._service.measure(Measure(worker=worker, sequence=sequence))

        found: tuple[int, float] = await asyncio.wrap_future(await self._do(ask))
        return found

    @ray.method
    async def weigh(self, version: int, norm: float) -> None:
        """Tells the norm, over all shards, of the mean that makes `version`."""
        await self._do(partial(self._shard.weigh, version, norm))

    @ray.method
    async def take(self, block: int) -> tuple[int, tuple[NDArray[Any], ...]]:
        """The newest version of a block, its parameters and states of the optimizer."""
        copied = await self._do(self._shard.blocks[block].copy)
        return copied.version, copied.numbers

    @ray.method
    async def leave(self, worker: int, incarnation: int) -> None:
        """The worker has ended."""
        await self._do(partial(self._service.leave, worker, incarnation))

    @ray.method
    async def counters(self) -> Counters:
        return await self._do(lambda: self._shard.counters)

    @ray.method
    async def journal(self, block: int) -> tuple[Entry, ...]:
        return await self._do(self._shard.blocks[block].journal)

    @ray.method
    async def node(self) -> str:
        """Where it runs."""
        found: str = ray.get_runtime_context().get_node_id()
        return found

    @ray.method
    async def process(self) -> int:
        """Its process id, on its node."""
        return os.getpid()

    async def _do(self, function: Callable[[], Result]) -> Result:
        return await asyncio.wrap_future(self._service.call(function))

    def _serve(self) -> None:
        _yield_to_who_rings()
        try:
            self._service.serve()
        except Exception:
            # A shard that cannot go on must not look alive; Ray starts it again from its memory.
            _logger.exception("the loop of a shard failed")
            os._exit(1)


def _yield_to_who_rings() -> None:
    """A worker rings at several shards and then waits: none of them takes its core before."""
    try:
        os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
    except OSError as error:  # where a sandbox forbids it rounds take longer, and are right
        _logger.info("a shard runs as other processes do: %s", error)


def _memory(spec: ServerSpec, share: NodeShare, home: str) -> SharedMemory:
    """What the keeper of `home` holds; a shard that had to run elsewhere has its own.

    The keeper of another node has the memory of other shards.
    """
    if ray.get_runtime_context().get_node_id() != home:
        return SharedMemory.create(Arena.size_bytes(share, spec.optimizer.num_states))
    keeper: Any = ray.get_actor(keeper_name(spec, home))
    return SharedMemory.of_process(*ray.get(keeper.where.remote()))
