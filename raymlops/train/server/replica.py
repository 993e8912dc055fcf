"""A second copy of a shard on another node, which follows it update by update."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import partial
from typing import Any

import ray

from raymlops.errors import StaleLeaseError
from raymlops.train.server.arena import Arena, NodeShare
from raymlops.train.server.block import Push
from raymlops.train.server.events import ShardCopy
from raymlops.train.server.memory import SharedMemory
from raymlops.train.server.settings import ServerSpec
from raymlops.train.server.shard import Shard, make_shard

_logger = logging.getLogger(__name__)


def replica_name(spec: ServerSpec, shard: int) -> str:
    return spec.actor(f"replica-{shard}")


class Replica:
    """The copy of shard `index`, as an actor. Steps are the same arithmetic, hence equal bits.

    Each process of the shard begins an epoch; what an older one, cut off from the cluster but
    alive, still wants to write is refused.
    """

    def __init__(self, spec: ServerSpec, index: int) -> None:
        import torch

        torch.set_num_threads(1)
        share = NodeShare(partition=spec.partition, shards=range(index, index + 1))
        memory = SharedMemory.create(Arena.size_bytes(share, spec.optimizer.num_states))
        self._shard = make_shard(spec, share, index, memory)
        self._epoch = 0

    @ray.method
    def begin(self) -> tuple[int, tuple[int, ...]]:
        """The caller's epoch, and the version of each block here; none in an empty replica."""
        self._epoch += 1
        versions = tuple(block.version for block in self._shard.blocks)
        return self._epoch, versions if self._shard.roster.is_loaded else ()

    @ray.method
    def restore(self, epoch: int, copy: ShardCopy) -> None:
        """Becomes `copy`.

        Raises:
            StaleLeaseError: a newer epoch has begun.
        """
        self._check(epoch)
        self._shard.restore(copy)

    @ray.method
    def update(
        self,
        epoch: int,
        block: int,
        version: int,
        pushes: Sequence[Push[Any]],
        factor: float,
        roster: bytes,
    ) -> bool:
        """Follows an update; False when this replica is too far behind, and must be restored.

        Raises:
            StaleLeaseError: a newer epoch has begun.
        """
        self._check(epoch)
        mine = self._shard.blocks[block]
        if not self._shard.roster.is_loaded or mine.version < version - 1:
            return False
        if mine.version == version - 1:
            mine.update(pushes, factor=factor)
        self._shard.roster.restore(roster)
        return True

    @ray.method
    def enrol(self, epoch: int, roster: bytes) -> bool:
        """Follows who works with the shard; False when this replica must be restored.

        Raises:
            StaleLeaseError: a newer epoch has begun.
        """
        self._check(epoch)
        if not self._shard.roster.is_loaded:
            return False
        self._shard.roster.restore(roster)
        return True

    @ray.method
    def node(self) -> str:
        """Where it runs."""
        found: str = ray.get_runtime_context().get_node_id()
        return found

    @ray.method
    def copy(self) -> ShardCopy:
        return self._shard.copy()

    def _check(self, epoch: int) -> None:
        if epoch < self._epoch:
            raise StaleLeaseError(f"epoch {epoch} of this shard was replaced by {self._epoch}")
        self._epoch = epoch


class Follower:
    """A shard's side of its replica."""

    def __init__(self, spec: ServerSpec, index: int, shard: Shard) -> None:
        self._index = index
        self._shard = shard
        self._replica: Any = ray.get_actor(replica_name(spec, index))
        began: Any = ray.get(self._replica.begin.remote())
        self._epoch: int = began[0]
        versions: tuple[int, ...] = began[1]
        mine = tuple(block.version for block in shard.blocks) if shard.roster.is_loaded else ()
        # An update that the replica has and this memory has not was cut off before its commit.
        if versions and (not mine or any(a > b for a, b in zip(versions, mine, strict=True))):
            shard.restore(ray.get(self._replica.copy.remote()))
            self._look_around()
        elif mine:
            self._restart()

    def restore(self) -> None:
        """Sends all."""
        ray.get(self._replica.restore.remote(self._epoch, self._shard.copy()))

    def enrol(self) -> None:
        """Returns once the replica knows the workers of the shard: a process that joined between
        two updates would be a stranger to the shard that comes of it."""
        roster = self._shard.roster.to_bytes()
        while not ray.get(self._replica.enrol.remote(self._epoch, roster)):
            self._restart()

    def follow(self, block: int, pushes: Sequence[Push[Any]], factor: float, version: int) -> None:
        """Returns once the update is in the replica; a Witness of the shard."""
        roster = self._shard.roster.to_bytes()
        update = partial(
            self._replica.update.remote, self._epoch, block, version, pushes, factor, roster
        )
        while not ray.get(update()):
            self._restart()

    def _restart(self) -> None:
        """Sends all to a replica that was started again, wherever that was possible."""
        self.restore()
        self._look_around()

    def _look_around(self) -> None:
        here = ray.get_runtime_context().get_node_id()
        warn_of_neighbours(self._index, here, ray.get(self._replica.node.remote()))


def warn_of_neighbours(shard: int, home: str, replica_home: str) -> None:
    """Ray places an actor elsewhere than asked when no other node is there, or ready."""
    if home == replica_home:
        _logger.warning(
            "shard %d and its replica are both on node %s, whose loss would be that of the "
            "parameters; start the server anew once there are other nodes, and they are ready",
            shard,
            home,
        )
