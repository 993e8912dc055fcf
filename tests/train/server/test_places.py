"""Which process is a worker of another node: the one that came last."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future
from typing import Any

import numpy as np
import pytest

from raymlops.errors import TrainingError
from raymlops.train.server import Asynchronous, ServerSettings, Sgd, Synchronous
from raymlops.train.server.arena import Arena, NodeShare
from raymlops.train.server.block import Push
from raymlops.train.server.events import Pull
from raymlops.train.server.memory import SharedMemory
from raymlops.train.server.partition import divide
from raymlops.train.server.replica import Replica
from raymlops.train.server.service import Service
from raymlops.train.server.settings import ServerSpec
from raymlops.train.server.shard import make_shard
from raymlops.train.server.sync import Sync

ZEROS = np.zeros(16, np.float32)


def spec_of(sync: Sync) -> ServerSpec:
    return ServerSpec(
        name="places",
        partition=divide({"vector": ZEROS}, num_shards=1),
        optimizer=Sgd(learning_rate=1.0),
        sync=sync,
        settings=ServerSettings(),
    )


def service(sync: Sync) -> Service:
    """That of a shard which is called, and has no workers of its own node."""
    spec = spec_of(sync)
    share = NodeShare(partition=spec.partition, shards=range(1))
    memory = SharedMemory.create(Arena.size_bytes(share, 0))
    shard = make_shard(spec, share, 0, memory)
    shard.load([[ZEROS]])
    return Service(shard, index=0, arena=memory, spec=spec)


def push(to: Service, sequence: int) -> Future[int]:
    return to.push(0, Push(worker=0, sequence=sequence, gradient=ZEROS))


def test_who_was_replaced_takes_no_place_back() -> None:
    """Its next push did, and was taken for one that had been applied."""
    places = service(Synchronous(workers=2))
    assert places.join(0, 5) == (0,)
    unanswered: Sequence[Future[Any]] = [
        push(places, 1),
        places.pull(Pull(worker=0, block=0, sequence=1)),
    ]
    assert places.join(0, 7) == (0,)
    for each in unanswered:  # they waited for half an hour
        with pytest.raises(TrainingError, match="shard 0 has another process as worker 0 by now"):
            each.result(timeout=0)
    with pytest.raises(TrainingError, match="give each a number of its own"):
        places.contact(0, 5)
    places.leave(0, 5)
    places.contact(0, 7)
    assert places.shard.roster.is_living(0, 7)


def test_who_was_counted_as_dead_comes_back() -> None:
    places = service(Asynchronous())
    places.join(0, 5)
    places.shard.leave(0)
    places.contact(0, 5)
    assert places.shard.roster.is_living(0, 5)


def test_a_replica_knows_who_came_since_the_last_update() -> None:
    """A shard that was made of it would have turned away who lives."""
    shard = service(Asynchronous()).shard
    replica = Replica(spec_of(Asynchronous()), 0)
    epoch, _ = replica.begin()
    assert not replica.enrol(epoch, shard.roster.to_bytes())  # it is empty
    replica.restore(epoch, shard.copy())
    shard.join(3, 5, pid=0, started_s=0.0)
    assert replica.enrol(epoch, shard.roster.to_bytes())
    again = service(Asynchronous())
    again.shard.restore(replica.copy())
    again.contact(3, 5)
