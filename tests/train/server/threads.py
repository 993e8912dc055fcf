"""A parameter server without Ray, whose shards are threads of the process that starts it."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Collection
from dataclasses import dataclass

from raymlops.train.server import Client, Optimizer, ServerSettings, Snapshot
from raymlops.train.server.arena import Arena, NodeShare
from raymlops.train.server.connect import connect_local
from raymlops.train.server.memory import SharedMemory
from raymlops.train.server.partition import divide
from raymlops.train.server.service import Service
from raymlops.train.server.settings import ServerSpec
from raymlops.train.server.shard import make_shard
from raymlops.train.server.sync import Sync


@dataclass(frozen=True)
class ThreadServer:
    """Reached by sockets and shared memory, as any; ends with its process."""

    spec: ServerSpec
    share: NodeShare

    def client(self, *, worker: int) -> Client:
        return connect_local(self.spec, self.share, worker=worker)

    def stop(self) -> None:
        """Threads end with their process."""


def start_threads(
    first: Snapshot,
    optimizer: Optimizer,
    *,
    sync: Sync,
    num_shards: int,
    tables: Collection[str] = (),
    clip_norm: float | None = None,
) -> ThreadServer:
    first.require_states(optimizer)
    partition = divide(first.parameters, num_shards=num_shards, tables=tables)
    spec = ServerSpec(
        name=secrets.token_hex(8),
        partition=partition,
        optimizer=optimizer,
        sync=sync,
        settings=ServerSettings(timeout_s=30),
        clip_norm=clip_norm,
    )
    share = NodeShare(partition=partition, shards=range(num_shards))
    memory = SharedMemory.create(Arena.size_bytes(share, optimizer.num_states))
    for index in range(num_shards):
        shard = make_shard(spec, share, index, memory)
        shard.load(first.part_of(partition, index), first.version)
        service = Service(shard, index=index, arena=memory, spec=spec)
        threading.Thread(target=service.serve, daemon=True).start()
    return ThreadServer(spec, share)
