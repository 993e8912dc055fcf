"""A shard and its copy, called as Ray would call them."""

from __future__ import annotations

import logging
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from raymlops.train.server import Asynchronous, ServerSettings, Sgd
from raymlops.train.server.arena import Arena, NodeShare
from raymlops.train.server.block import Push
from raymlops.train.server.memory import SharedMemory
from raymlops.train.server.partition import divide
from raymlops.train.server.replica import Follower, Replica
from raymlops.train.server.settings import ServerSpec
from raymlops.train.server.shard import Shard, make_shard

ZEROS = np.zeros(16, np.float32)
SPEC = ServerSpec(
    name="copied",
    partition=divide({"vector": ZEROS}, num_shards=1),
    optimizer=Sgd(learning_rate=1.0),
    sync=Asynchronous(),
    settings=ServerSettings(durability="node"),
)


class Nodes:
    """As much of Ray as a shard on node "a" needs to know its replica."""

    def __init__(self) -> None:
        self.place("b")

    def place(self, node: str) -> None:
        """Starts the replica there, empty."""
        self.home, self.replica = node, Replica(SPEC, 0)

    def get_actor(self, name: str) -> Any:
        return self

    def get(self, answer: Any) -> Any:
        return answer

    def get_runtime_context(self) -> Any:
        return SimpleNamespace(get_node_id=lambda: "a")

    def __getattr__(self, method: str) -> Any:
        def call(*args: Any) -> Any:
            return self.home if method == "node" else getattr(self.replica, method)(*args)

        return SimpleNamespace(remote=call)


@pytest.fixture
def nodes(monkeypatch: pytest.MonkeyPatch) -> Nodes:
    made = Nodes()
    monkeypatch.setattr("raymlops.train.server.replica.ray", made)
    return made


def make() -> Shard:
    share = NodeShare(partition=SPEC.partition, shards=range(1))
    return make_shard(SPEC, share, 0, SharedMemory.create(Arena.size_bytes(share, 0)))


def start(shard: Shard) -> Follower:
    shard.load([[ZEROS]])
    follower = Follower(SPEC, 0, shard)
    follower.restore()
    return follower


def follow(shard: Shard, follower: Follower, sequence: int) -> None:
    push: Push[Any] = Push(worker=0, sequence=sequence, gradient=ZEROS)
    shard.blocks[0].update([push], lambda version: follower.follow(0, [push], 1.0, version))


@pytest.mark.parametrize(
    "hear",
    [lambda shard, follower: follow(shard, follower, 1), lambda _, follower: follower.enrol()],
)
def test_a_replica_that_came_to_the_node_of_its_shard_is_warned_of(
    nodes: Nodes, caplog: pytest.LogCaptureFixture, hear: Callable[[Shard, Follower], None]
) -> None:
    """Where one of two nodes was lost, both were on the other one, and nobody was told."""
    shard = make()
    follower = start(shard)
    nodes.place("c")
    hear(shard, follower)
    assert not caplog.messages
    nodes.place("a")
    with caplog.at_level(logging.WARNING):
        follower.enrol()
    (told,) = caplog.messages
    assert told.startswith("shard 0 and its replica are both on node a, whose loss would be")
    assert nodes.replica.copy().blocks[0].version == shard.blocks[0].version


def test_a_shard_that_came_to_the_node_of_its_replica_is_warned_of(
    nodes: Nodes, caplog: pytest.LogCaptureFixture
) -> None:
    shard = make()
    follow(shard, start(shard), 1)
    nodes.home = "a"
    again = make()
    Follower(SPEC, 0, again)
    assert again.blocks[0].version == 1
    assert len(caplog.messages) == 1
