"""Holds the memory of a node's shards, so that it outlives the death of any of them."""

from __future__ import annotations

import os

import ray

from raymlops.train.server import wire
from raymlops.train.server.memory import SharedMemory
from raymlops.train.server.settings import ServerSpec
from raymlops.train.server.wire import Kind, Message


def keeper_name(spec: ServerSpec, node: str) -> str:
    return spec.actor(f"memory-{node}")


class Keeper:
    """One a node and server, as an actor. Does nothing, so that it has nothing to die of.

    If it dies all the same, the next one takes the memory over from a shard. Memory is lost only
    when keeper and shards of a node die together.
    """

    def __init__(self, server: str, shards: range, size_bytes: int) -> None:
        self._memory = _adopted(server, shards) or SharedMemory.create(size_bytes)

    @ray.method
    def where(self) -> tuple[int, int]:
        """Process and descriptor to take the memory from."""
        return os.getpid(), self._memory.descriptor

    @ray.method
    def process(self) -> int:
        return os.getpid()


def _adopted(server: str, shards: range) -> SharedMemory | None:
    for shard in shards:
        try:
            with wire.connect(wire.address_of(server, shard)) as line:
                wire.send(line, Message(kind=Kind.ADOPT))
                _, descriptors = wire.receive(line)
        except ConnectionError:
            continue
        return SharedMemory(descriptors[0])
    return None
