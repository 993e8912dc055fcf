"""Shards and workers as plain processes, without Ray: quick to start, and to kill."""

from __future__ import annotations

import os
import secrets
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from multiprocessing.process import BaseProcess
from typing import Any

from raymlops.train.server import Client, Optimizer, ServerSettings, Snapshot
from raymlops.train.server.arena import Arena, NodeShare
from raymlops.train.server.connect import connect_local
from raymlops.train.server.memory import SharedMemory
from raymlops.train.server.partition import Array, divide
from raymlops.train.server.service import Service
from raymlops.train.server.settings import ServerSpec
from raymlops.train.server.shard import Shard, make_shard
from raymlops.train.server.sync import Sync
from tests.processes import PROCESSES


class Fleet:
    """A server of one node, whose memory the test's own process keeps."""

    def __init__(
        self,
        first: dict[str, Array] | Snapshot,
        optimizer: Optimizer,
        sync: Sync,
        *,
        num_shards: int,
        tables: Sequence[str] = (),
        settings: ServerSettings,
        clip_norm: float | None,
    ) -> None:
        snapshot = first if isinstance(first, Snapshot) else Snapshot.of(first)
        partition = divide(snapshot.parameters, num_shards=num_shards, tables=tables)
        self.spec = ServerSpec(
            name=secrets.token_hex(8),
            partition=partition,
            optimizer=optimizer,
            sync=sync,
            settings=settings,
            clip_norm=clip_norm,
        )
        self.share = NodeShare(partition=partition, shards=range(num_shards))
        size_bytes = Arena.size_bytes(self.share, optimizer.num_states)
        self.memory = SharedMemory.create(size_bytes)
        for shard in range(num_shards):
            self.look(shard).load(snapshot.part_of(partition, shard), snapshot.version)
        self.shards = [self._launch(shard) for shard in range(num_shards)]
        self.workers: list[BaseProcess] = []
        self._clients: list[Client] = []

    def look(self, shard: int) -> Shard:
        """The state of a shard, as it lies in memory."""
        return make_shard(self.spec, self.share, shard, self.memory)

    def kill_shard(self, shard: int) -> None:
        """Kills it in whatever it does, and starts it again."""
        self.shards[shard].kill()
        self.shards[shard].join()
        self.shards[shard] = self._launch(shard)

    def client(self, worker: int) -> Client:
        made = connect_local(self.spec, self.share, worker=worker)
        self._clients.append(made)
        return made

    def work(self, worker: int, function: Callable[..., None], *args: Any) -> BaseProcess:
        """Runs `function(client, *args)` in a process of its own."""
        process = PROCESSES.Process(
            target=_work, args=(self.spec, self.share, worker, function, *args), daemon=True
        )
        process.start()
        self.workers.append(process)
        return process

    def close(self) -> None:
        for client in self._clients:
            client.close()
        for process in (*self.workers, *self.shards):
            process.kill()
            process.join()
        self.memory.close()

    def _launch(self, shard: int) -> BaseProcess:
        place = (os.getpid(), self.memory.descriptor)
        args = (self.spec, self.share, shard, place)
        process = PROCESSES.Process(target=_serve, args=args, daemon=True)
        process.start()
        return process


@contextmanager
def fleet(
    first: dict[str, Array] | Snapshot,
    optimizer: Optimizer,
    sync: Sync,
    *,
    num_shards: int = 2,
    tables: Sequence[str] = (),
    settings: ServerSettings | None = None,
    clip_norm: float | None = None,
) -> Iterator[Fleet]:
    made = Fleet(
        first,
        optimizer,
        sync,
        num_shards=num_shards,
        tables=tables,
        settings=settings or ServerSettings(timeout_s=30),
        clip_norm=clip_norm,
    )
    try:
        yield made
    finally:
        made.close()


def _serve(spec: ServerSpec, share: NodeShare, shard: int, place: tuple[int, int]) -> None:
    import torch

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(1)
    memory = SharedMemory.of_process(*place)
    Service(make_shard(spec, share, shard, memory), index=shard, arena=memory, spec=spec).serve()


def _work(
    spec: ServerSpec, share: NodeShare, worker: int, function: Callable[..., None], *args: Any
) -> None:
    with connect_local(spec, share, worker=worker) as client:
        function(client, *args)


def wait_until(done: Callable[[], bool], timeout_s: float = 20) -> None:
    deadline = time.monotonic() + timeout_s
    while not done():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.002)


def kill_in_turn(served: Fleet, workers: list[BaseProcess]) -> int:
    """Kills one shard after the other as long as anybody works, each after some progress."""
    kills = 0
    while any(worker.is_alive() for worker in workers):
        shard = kills % 2
        served.kill_shard(shard)
        kills += 1
        enough = served.look(shard).blocks[0].version + 20
        wait_until(partial(_is_past, served, shard, enough, workers))
    return kills


def _is_past(served: Fleet, shard: int, version: int, workers: list[BaseProcess]) -> bool:
    ended = not any(worker.is_alive() for worker in workers)
    return ended or served.look(shard).blocks[0].version >= version
