"""From what a worker is told about a server to a client of it."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Callable

from raymlops.train.server.arena import MAX_WORKERS, NodeShare, Slots
from raymlops.train.server.client import Client
from raymlops.train.server.link import Link
from raymlops.train.server.local import LocalLink
from raymlops.train.server.memory import SharedMemory
from raymlops.train.server.settings import ServerSpec

MakeLink = Callable[[int, int, SharedMemory], Link]
"""Makes the link to a shard, given a number that tells this process from every other one, and the
memory of the slots."""


def connect_local(spec: ServerSpec, share: NodeShare, *, worker: int) -> Client:
    """A client in which all shards, those of `share`, are on this node.

    Raises:
        TrainingError: a shard cannot be reached in time, or knows another process as `worker`.
    """

    def link(shard: int, incarnation: int, slots: SharedMemory) -> Link:
        return LocalLink(spec, share, shard, worker=worker, incarnation=incarnation, slots=slots)

    return connect(spec, link, worker=worker)


def connect(spec: ServerSpec, link: MakeLink, *, worker: int) -> Client:
    """A client with one link a shard, made by `link`; when one cannot be made, none stays."""
    if not 0 <= worker < MAX_WORKERS:
        raise ValueError(f"worker is {worker}; numbers go from 0 to {MAX_WORKERS - 1}")
    slots = SharedMemory.create(Slots.size_bytes(spec.partition, spec.settings.num_slots))
    incarnation = secrets.randbits(63) | 1  # not 0, which stands for nobody
    links: list[Link] = []
    with contextlib.ExitStack() as undo:
        undo.callback(slots.close)
        for shard in range(spec.partition.num_shards):
            made = link(shard, incarnation, slots)
            undo.callback(made.close)
            links.append(made)
        undo.pop_all()
    return Client(spec, links, slots)
