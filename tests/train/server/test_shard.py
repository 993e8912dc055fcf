"""What a shard does with each event, without a process or a socket."""

from __future__ import annotations

import math
import secrets

import numpy as np
import pytest

from raymlops.train.server import Asynchronous, ServerSettings, Sgd, Stale, Synchronous
from raymlops.train.server.arena import Arena, NodeShare
from raymlops.train.server.block import Push
from raymlops.train.server.events import Applied, Counters, Granted, Pull
from raymlops.train.server.memory import SharedMemory
from raymlops.train.server.partition import divide
from raymlops.train.server.settings import ServerSpec
from raymlops.train.server.shard import Shard, make_shard
from raymlops.train.server.sync import Sync

ZEROS = np.zeros(16, np.float32)


class Home:
    """The memory of a shard, from which it can be started again."""

    def __init__(self, sync: Sync) -> None:
        partition = divide({"vector": ZEROS}, num_shards=1)
        self.share = NodeShare(partition=partition, shards=range(1))
        self.spec = ServerSpec(
            name=secrets.token_hex(4),
            partition=partition,
            optimizer=Sgd(learning_rate=1.0),
            sync=sync,
            settings=ServerSettings(),
        )
        self.memory = SharedMemory.create(Arena.size_bytes(self.share, 0))
        self.start().load([[ZEROS]])

    def start(self) -> Shard:
        return make_shard(self.spec, self.share, 0, self.memory)


@pytest.mark.parametrize(
    ("clip_norm", "sync", "message"),
    [
        (0.0, Synchronous(workers=1), r"clip_norm is 0\.0; it is positive and finite, or None"),
        (math.nan, Synchronous(workers=1), "clip_norm is nan; it is positive"),  # bounded nothing
        (1.0, Asynchronous(), "clip_norm is 1.0 and sync .* leave clip_norm out"),
    ],
)
def test_a_norm_that_bounds_nothing_is_refused(clip_norm: float, sync: Sync, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ServerSpec(
            name="norm",
            partition=divide({"vector": ZEROS}, num_shards=1),
            optimizer=Sgd(learning_rate=1.0),
            sync=sync,
            settings=ServerSettings(),
            clip_norm=clip_norm,
        )


def join(shard: Shard, worker: int, incarnation: int = 1) -> tuple[int, ...]:
    return shard.join(worker, incarnation, pid=1, started_s=0.0)


def push(shard: Shard, worker: int, sequence: int) -> list[object]:
    gradient = np.full(16, -1, np.float32)
    shard.push(0, Push(worker=worker, sequence=sequence, gradient=gradient))
    return list(shard.advance())


def pull(shard: Shard, worker: int, sequence: int, *, reading: bool = False) -> list[object]:
    """What comes of it; unless the worker is still `reading`, it has read what it was granted."""
    shard.pull(Pull(worker=worker, block=0, sequence=sequence))
    answers = list(shard.advance())
    if not reading:
        shard.release(worker, 0)
    return answers


def applied(worker: int, sequence: int) -> Applied:
    return Applied(worker=worker, block=0, sequence=sequence)


def granted(worker: int, version: int) -> Granted:
    return Granted(worker=worker, block=0, version=version)


def level(shard: Shard) -> float:
    (value,) = set(shard.blocks[0].buffer(shard.blocks[0].version)[0].tolist())
    return float(value)


def test_a_push_that_is_sent_again_counts_once() -> None:
    home = Home(Asynchronous())
    shard = home.start()
    assert join(shard, 3) == (0,)
    assert push(shard, 3, 1) == [applied(3, 1)]
    assert push(shard, 3, 1) == [applied(3, 1)]
    again = home.start()
    assert join(again, 3) == (1,)
    assert push(again, 3, 1) == [applied(3, 1)]
    assert (level(again), again.blocks[0].version) == (1.0, 1)
    assert again.counters == Counters(num_repeated=1)


def test_a_push_that_overtook_another_waits_for_it() -> None:
    shard = Home(Asynchronous()).start()
    join(shard, 0)
    assert push(shard, 0, 2) == []
    assert push(shard, 0, 1) == [applied(0, 1)]
    assert shard.advance() == [applied(0, 2)]
    assert level(shard) == 2.0


def test_a_round_waits_over_a_restart_for_those_who_were_there() -> None:
    """The first to come back after a restart is not all there is."""
    home = Home(Synchronous(workers=2))
    shard = home.start()
    join(shard, 0)
    assert push(shard, 0, 1) == []
    join(shard, 1)
    assert push(shard, 1, 1) == [applied(0, 1), applied(1, 1)]
    again = home.start()
    assert again.roster.living == {0, 1}
    join(again, 0)
    assert push(again, 0, 2) == []
    assert pull(again, 0, 2) == []
    again.leave(1)
    assert again.advance() == [applied(0, 2)]
    assert again.advance() == [granted(0, 2)]


def test_a_worker_that_comes_back_does_not_hold_the_others_up() -> None:
    shard = Home(Stale(bound=1)).start()
    join(shard, 0)
    join(shard, 1)
    push(shard, 1, 1)
    shard.leave(1)
    for sequence in range(1, 10):
        push(shard, 0, sequence)
        assert pull(shard, 0, sequence) == [granted(0, sequence + 1)]
    assert join(shard, 1, incarnation=2) == (1,)
    assert push(shard, 0, 10) == [applied(0, 10)]
    assert pull(shard, 0, 10) == [granted(0, 11)]
    assert push(shard, 0, 11) == [applied(0, 11)]
    assert pull(shard, 0, 11) == []
    assert push(shard, 1, 2) == [applied(1, 2)]
    assert shard.advance() == [granted(0, 13)]
    assert shard.counters.num_waits == 1


def test_what_a_worker_reads_is_not_written_over() -> None:
    shard = Home(Asynchronous()).start()
    join(shard, 0)
    join(shard, 1)
    assert pull(shard, 0, 0, reading=True) == [granted(0, 0)]
    assert push(shard, 1, 1) == [applied(1, 1)]
    assert push(shard, 1, 2) == []
    shard.release(0, 0)
    assert shard.advance() == [applied(1, 2)]


@pytest.mark.parametrize("end", ["leave", "join"])
def test_the_pins_of_the_dead_are_lifted(end: str) -> None:
    shard = Home(Asynchronous()).start()
    join(shard, 0)
    join(shard, 1)
    pull(shard, 0, 0, reading=True)
    push(shard, 1, 1)
    assert push(shard, 1, 2) == []
    if end == "leave":
        shard.leave(0)
    else:
        join(shard, 0, incarnation=2)
    assert shard.advance() == [applied(1, 2)]


def test_first_parameters_are_loaded_once() -> None:
    shard = Home(Asynchronous()).start()
    join(shard, 0)
    push(shard, 0, 1)
    shard.load([[np.full(16, 9, np.float32)]])
    assert level(shard) == 1.0
