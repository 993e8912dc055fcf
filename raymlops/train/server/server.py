"""The server as its owner sees it: started, looked at, stopped."""

from __future__ import annotations

import secrets
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import ray
from numpy.typing import ArrayLike

from raymlops.train.server.actor import ShardActor
from raymlops.train.server.arena import Arena, shares
from raymlops.train.server.block import Entry
from raymlops.train.server.client import Client
from raymlops.train.server.connect import connect
from raymlops.train.server.events import Counters
from raymlops.train.server.keeper import Keeper, keeper_name
from raymlops.train.server.link import Link
from raymlops.train.server.local import LocalLink
from raymlops.train.server.memory import SharedMemory
from raymlops.train.server.optimizers import Optimizer
from raymlops.train.server.partition import divide, place, replica_nodes
from raymlops.train.server.remote import RemoteLink
from raymlops.train.server.replica import Replica, replica_name, warn_of_neighbours
from raymlops.train.server.settings import ServerSettings, ServerSpec
from raymlops.train.server.snapshot import Snapshot
from raymlops.train.server.sync import Sync

_NODE = "ray.io/node-id"


@dataclass(frozen=True, kw_only=True)
class ParameterServer:
    """Shards as Ray actors, spread over the nodes. Hand it to workers, which make clients of it.

        with ParameterServer.start(weights, Adam(), num_shards=2, sync=Stale(bound=2)) as server:
            ray.get([work.remote(server, worker) for worker in range(4)])

    It ends with the process that started it, at the latest.
    """

    spec: ServerSpec
    placement: tuple[str, ...]
    shards: tuple[Any, ...]
    helpers: tuple[Any, ...]

    @classmethod
    def start(
        cls,
        first: Mapping[str, ArrayLike] | Snapshot,
        optimizer: Optimizer,
        *,
        sync: Sync,
        num_shards: int = 1,
        tables: Collection[str] = (),
        settings: ServerSettings | None = None,
        clip_norm: float | None = None,
        label: str = "parameters",
    ) -> ParameterServer:
        """Returns once every shard holds its part of the `first` parameters, or goes on from a
        snapshot. Ray must be connected; its dashboard names the actors after `label`.

        Parameters named in `tables`, of shape [rows, width], are pushed and pulled by rows.
        `clip_norm` bounds the norm of the mean gradient of a round, over all shards and tables.

        Raises:
            ValueError: the parameters cannot be divided so, durability "node" finds one node, the
                snapshot is of another optimizer, or `clip_norm` is given and `sync` has no rounds.
        """
        snapshot = first if isinstance(first, Snapshot) else Snapshot.of(first)
        snapshot.require_states(optimizer)
        spec = ServerSpec(
            name=secrets.token_hex(8),
            label=label,
            partition=divide(snapshot.parameters, num_shards=num_shards, tables=tables),
            optimizer=optimizer,
            sync=sync,
            settings=settings or ServerSettings(),
            clip_norm=clip_norm,
        )
        nodes = _nodes()
        placement = place(num_shards, nodes)
        copied_to = replica_nodes(placement, nodes) if spec.settings.durability == "node" else ()
        replicas = _launch_replicas(spec, placement, copied_to)
        keepers, shards = _launch_shards(spec, placement, copied_to)
        ray.get(
            [
                shard.load.remote(snapshot.part_of(spec.partition, index), snapshot.version)
                for index, shard in enumerate(shards)
            ]
        )
        homes: list[str] = ray.get([actor.node.remote() for actor in (*shards, *replicas)])
        for index, (home, copied) in enumerate(zip(homes, homes[num_shards:], strict=False)):
            warn_of_neighbours(index, home, copied)
        return cls(spec=spec, placement=placement, shards=shards, helpers=(*replicas, *keepers))

    def client(self, *, worker: int) -> Client:
        """A client for this process, which is worker number `worker`: by shared memory to shards
        of its own node, through the object store to others.

        Raises:
            TrainingError: a shard cannot be reached, or another living process is this worker.
        """
        here = ray.get_runtime_context().get_node_id()
        found = shares(self.spec.partition, self.placement)
        nodes: list[str] = ray.get([shard.node.remote() for shard in self.shards])

        def link(shard: int, incarnation: int, slots: SharedMemory) -> Link:
            handle = self.shards[shard]
            if nodes[shard] == here:
                return LocalLink(
                    self.spec, found[self.placement[shard]], shard,
                    worker=worker, incarnation=incarnation, slots=slots,
                )  # fmt: skip
            return RemoteLink(self.spec, shard, handle, worker=worker, incarnation=incarnation)

        return connect(self.spec, link, worker=worker)

    def counters(self) -> Counters:
        """What all shards did since their processes started."""
        counted = ray.get([shard.counters.remote() for shard in self.shards])
        return sum(counted, Counters())

    def journal(self, shard: int, *, table: str | None = None) -> tuple[Entry, ...]:
        """The order in which `shard` applied pushes, the newest 65,280 of them.

        One process that applies the same gradients in this order gets the same parameters.
        """
        names = [None, *(each.name for each in self.spec.partition.tables)]
        found: tuple[Entry, ...] = ray.get(self.shards[shard].journal.remote(names.index(table)))
        return found

    def stop(self) -> None:
        """Ends all processes of the server. Their memory goes with them."""
        for actor in (*self.shards, *self.helpers):
            ray.kill(actor)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()


def _launch_replicas(
    spec: ServerSpec, placement: Sequence[str], copied_to: Sequence[str]
) -> tuple[Any, ...]:
    """One a shard, on another node, where a node may be lost."""
    return tuple(
        _launch(Replica, spec, node, replica_name(spec, index), spec, index, apart=home)
        for index, (node, home) in enumerate(zip(copied_to, placement, strict=False))
    )


def _launch_shards(
    spec: ServerSpec, placement: tuple[str, ...], copied_to: Sequence[str]
) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    """The keepers of their memory, one a node; and all shards, in order."""
    copies = dict(enumerate(copied_to))
    keepers: list[Any] = []
    shards: list[Any] = []
    for node, share in shares(spec.partition, placement).items():
        name = keeper_name(spec, node)
        size_bytes = Arena.size_bytes(share, spec.optimizer.num_states)
        keepers.append(_launch(Keeper, spec, node, name, spec.name, share.shards, size_bytes))
        shards += [
            _launch(
                ShardActor,
                spec,
                node,
                spec.actor(f"shard-{i}"),
                spec,
                share,
                i,
                node,
                apart=copies.get(i),
            )
            for i in share.shards
        ]
    return tuple(keepers), tuple(shards)


def _nodes() -> list[str]:
    """The living nodes, that of this process first."""
    untyped: Any = ray
    here = ray.get_runtime_context().get_node_id()
    living = sorted(node["NodeID"] for node in untyped.nodes() if node["Alive"])
    return [here, *(node for node in living if node != here)]


def _launch(
    actor: type, spec: ServerSpec, node: str, name: str, *args: Any, apart: str | None = None
) -> Any:
    """An actor on `node`; one that survives the node is started again elsewhere, where it can on
    another than `apart`: its copy is there, and the next loss would be that of both."""
    elsewhere = [{"label_selector": {_NODE: f"!{apart}"}}, {"label_selector": {}}]
    return (
        ray.remote(actor)
        .options(
            name=name,
            num_cpus=0,
            max_restarts=-1,
            max_task_retries=-1,
            # NodeAffinitySchedulingStrategy(soft=True) put actors elsewhere though the node lived.
            label_selector={_NODE: node},
            fallback_strategy=None if apart is None else elsewhere,
        )
        .remote(*args)
    )
