"""A worker's side of the server: gradients go, parameters come."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from raymlops.errors import TrainingError
from raymlops.train.server.arena import DENSE, Slots
from raymlops.train.server.fitting import flat_gradients, keys_of, row_gradients, table_of
from raymlops.train.server.link import Link
from raymlops.train.server.local import LocalLink
from raymlops.train.server.memory import SharedMemory
from raymlops.train.server.partition import Array, Piece
from raymlops.train.server.payload import Payload
from raymlops.train.server.rows import Rows, sum_rows
from raymlops.train.server.settings import ServerSpec
from raymlops.train.server.snapshot import Snapshot


@dataclass(frozen=True, kw_only=True)
class Traffic:
    """What a client moved; bytes of gradients and parameters, whichever way they went."""

    num_pushes: int = 0
    num_pulls: int = 0
    pushed_bytes: int = 0
    pulled_bytes: int = 0


class Packing(Protocol):
    """Makes gradients smaller."""

    def pack(self, flat: NDArray[Any], start: int, pieces: Sequence[Piece]) -> Payload:
        """The payload of a shard's range `flat`, which begins at place `start` of the vector of all
        parameters and becomes what the payload stands for."""
        ...


class Client:
    """A worker's connection to all shards. For one thread.

        weights = client.pull()
        client.push(gradients)

    A push returns once the gradients are copied, and waits only while `num_slots` are on their
    way. When a shard dies, calls wait for it to come back and send again what it had not
    acknowledged, which is applied once.

    Where the server clips, a round is one push to each block, and whatever follows these waits for
    the other workers' first. `norm` is then that of the mean of the last round, before it was
    bounded.
    """

    def __init__(
        self,
        spec: ServerSpec,
        links: Sequence[Link],
        slots: SharedMemory,
    ) -> None:
        """One link a shard, in order; those to shards of this node hand `slots` on."""
        self._spec = spec
        self._partition = spec.partition
        self._links = links
        self._memory = slots
        self._slots = Slots(spec.partition, spec.settings.num_slots, slots)
        self._pushed = [0] * (1 + len(spec.partition.tables))
        self._flat: NDArray[Any] | None = None
        self._weighed = 0
        self.norm: float | None = None
        self.traffic = Traffic()

    def push(self, gradients: Mapping[str, ArrayLike], *, packing: Packing | None = None) -> None:
        """Sends the gradients of all dense parameters, of the shapes these have, to shards of other
        nodes as `packing` makes them.

        Raises:
            ValueError: names, shapes or types differ from the parameters; nothing was sent.
        """
        given = flat_gradients(self._partition, gradients)
        self._begin_push(DENSE)
        slot = self._slot(DENSE)
        flat = self._slots.dense(slot)
        cuts = self._partition.cuts
        size_bytes = 0
        for shard, link in enumerate(self._links):
            pieces = self._partition.pieces(cuts[shard], cuts[shard + 1])
            for piece in pieces:
                target = flat[piece.offset : piece.offset + piece.stop - piece.start]
                source = given[piece.name][piece.start : piece.stop]
                if target.ctypes.data != source.ctypes.data:
                    np.copyto(target, source)
            mine = flat[cuts[shard] : cuts[shard + 1]]
            if packing is None:
                link.push(DENSE, mine, slot=slot)
                size_bytes += sum(piece.stop - piece.start for piece in pieces) * mine.itemsize
            else:
                payload = packing.pack(mine, cuts[shard], pieces)
                link.push(DENSE, payload, slot=slot)
                size_bytes += payload.size_bytes
        self._pushed[DENSE] += 1
        self._count(num_pushes=1, pushed_bytes=size_bytes)

    def buffers(self) -> dict[str, Array]:
        """Writable arrays from which the next `push` need not copy; their content is arbitrary.

        Push exactly these arrays. They are to be written until then, and not after.
        """
        self._begin_push(DENSE)
        return self._named(self._slots.dense(self._slot(DENSE)))

    def pull(self) -> dict[str, Array]:
        """The dense parameters, each shard's of one version that the mode allows.

        The arrays are read-only, and change with the second `push` or the next `pull` after this
        one: under Synchronous they are where the server keeps them, else a copy that is used again.
        """
        self._weigh()
        for link in self._links:
            link.ask(DENSE)
        flat = self._shared()
        if flat is None:
            flat = self._copied()
        arrays = self._named(flat)
        for array in arrays.values():
            array.flags.writeable = False
        self._count(num_pulls=1, pulled_bytes=sum(array.nbytes for array in arrays.values()))
        return arrays

    def push_rows(self, table: str, keys: ArrayLike, gradients: ArrayLike) -> None:
        """Sends `gradients` [keys, width] of the rows `keys`; those of equal keys are summed.

        Raises:
            ValueError: keys or gradients do not fit the table; nothing was sent.
        """
        block, found = table_of(self._partition, table)
        checked = keys_of(found, keys)
        rows = sum_rows(checked, row_gradients(self._partition, found, checked, gradients))
        self._begin_push(block)
        slot = self._slot(block)
        for shard, link in enumerate(self._links):
            mine = rows.keys % len(self._links) == shard
            room_keys, room_values = self._slots.rows_of(shard, block, slot)
            count = int(np.count_nonzero(mine))
            np.floor_divide(rows.keys[mine], len(self._links), out=room_keys[:count])
            room_values[:count] = rows.values[mine]
            link.push(block, Rows(room_keys[:count], room_values[:count]), slot=slot)
        self._pushed[block] += 1
        self._count(num_pushes=1, pushed_bytes=rows.values.nbytes)

    def pull_rows(self, table: str, keys: ArrayLike) -> Array:
        """The rows [keys, width] in the order of `keys`, which may repeat.

        Raises:
            ValueError: a key is not a row of the table.
        """
        block, found = table_of(self._partition, table)
        checked = keys_of(found, keys)
        self._weigh()
        result = np.empty((len(checked), found.width), self._partition.dtype)
        shards = checked % len(self._links)
        places = [np.flatnonzero(shards == shard) for shard in range(len(self._links))]
        for link, mine in zip(self._links, places, strict=True):
            link.ask(block, checked[mine] // len(self._links))
        for link, mine in zip(self._links, places, strict=True):
            part = np.empty((len(mine), found.width), self._partition.dtype)
            link.read(block, part)
            result[mine] = part
        self._count(num_pulls=1, pulled_bytes=result.nbytes)
        return result

    def snapshot(self) -> Snapshot:
        """A copy of all that the shards hold, states of the optimizer included.

        It is taken when every worker has flushed, has pushed to every block equally often, and
        waits.

        Raises:
            TrainingError: the shards have seen different numbers of updates.
        """
        blocks = [[link.take(block) for link in self._links] for block in range(len(self._pushed))]
        versions = sorted({version for block in blocks for version, _ in block})
        if len(versions) > 1:
            raise TrainingError(
                f"parts of the server are at versions {versions}; take a snapshot when every "
                "worker has flushed and waits"
            )
        parameters, *states = (
            self._gathered([[numbers[kind] for _, numbers in block] for block in blocks])
            for kind in range(1 + self._spec.optimizer.num_states)
        )
        return Snapshot(parameters=parameters, states=tuple(states), version=versions[0])

    def flush(self) -> None:
        """Waits until every push is acknowledged: from then on it is in the parameters."""
        self._weigh()
        for block in range(len(self._pushed)):
            for link in self._links:
                link.wait_room(block, in_flight=0)

    def close(self) -> None:
        """Leaves: the others no longer wait for this worker. What is not flushed may be lost."""
        for link in self._links:
            link.close()
        self._memory.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is None:
            self.flush()
        self.close()

    def _slot(self, block: int) -> int:
        return self._pushed[block] % self._spec.settings.num_slots

    def _begin_push(self, block: int) -> None:
        """Waits for a slot."""
        if self._pushed[block] > self._weighed:
            self._weigh()
        for link in self._links:
            link.wait_room(block, in_flight=self._spec.settings.num_slots - 1)

    def _weigh(self) -> None:
        """Brings the parts of a norm together, if the server clips and this was not yet done.

        It is the same sum whichever worker is first. Who comes later is told what was taken.
        """
        if self._spec.clip_norm is None or set(self._pushed) == {self._weighed}:
            return
        if len(set(self._pushed)) > 1:
            names = ["the dense parameters", *(table.name for table in self._partition.tables)]
            counts = ", ".join(f"{n} {count}" for n, count in zip(names, self._pushed, strict=True))
            raise ValueError(
                f"pushes are of {counts}; a server that clips needs one of each in every round, "
                "of no rows where there are none"
            )
        self._weighed = self._pushed[DENSE]
        for link in self._links:
            link.measure(self._weighed)
        found = [link.measured() for link in self._links]
        known = [value for version, value in found if version == 0]
        self.norm = known[0] if known else math.sqrt(sum(square for _, square in found))
        for link, (version, _) in zip(self._links, found, strict=True):
            if version:
                link.weigh(version, self.norm)

    def _shared(self) -> NDArray[Any] | None:
        """The vector as it lies in the server's memory; None where it is to be copied."""
        links = [link for link in self._links if isinstance(link, LocalLink)]
        # With durability "node" shards that fled have memory of their own, each for itself.
        moving = self._spec.settings.durability == "node"
        if moving or not self._spec.sync.steady or len(links) < len(self._links):
            return None
        buffers = {link.wait_version(DENSE) % 2 for link in links}
        if len(buffers) > 1:  # a worker that died took part in a round of some shards only
            return None
        for link in links:
            link.release(DENSE)
        return links[0].arena.dense(buffers.pop())

    def _copied(self) -> NDArray[Any]:
        cuts = self._partition.cuts
        if self._flat is None:
            self._flat = np.empty(cuts[-1], self._partition.dtype)
        for shard, link in enumerate(self._links):
            link.read(DENSE, self._flat[cuts[shard] : cuts[shard + 1]])
        return self._flat

    def _gathered(self, blocks: Sequence[Sequence[NDArray[Any]]]) -> dict[str, Array]:
        """By name, one kind of numbers of all blocks, of which each shard has a part."""
        dense, *tables = blocks
        found = self._named(np.concatenate(dense))
        for table, parts in zip(self._partition.tables, tables, strict=True):
            found[table.name] = np.empty((table.num_rows, table.width), self._partition.dtype)
            for shard, part in enumerate(parts):
                found[table.name][shard :: len(parts)] = part
        return found

    def _named(self, flat: NDArray[Any]) -> dict[str, Array]:
        return {
            name: flat[offset : offset + int(np.prod(self._partition.shapes[name]))].reshape(
                self._partition.shapes[name]
            )
            for name, offset in self._partition.offsets.items()
        }

    def _count(self, **more: int) -> None:
        changed = {name: getattr(self.traffic, name) + count for name, count in more.items()}
        self.traffic = replace(self.traffic, **changed)
