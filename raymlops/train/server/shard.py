"""A shard without its plumbing: who pushes and pulls, what is applied next, who is answered."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import fields
from functools import partial
from typing import Any

from numpy.typing import NDArray

from raymlops.train.server.arena import DENSE, Arena, NodeShare
from raymlops.train.server.block import Block, DenseBlock, Push, RowBlock
from raymlops.train.server.events import (
    Answer,
    Applied,
    Counters,
    Granted,
    Measure,
    Measured,
    Pull,
    ShardCopy,
)
from raymlops.train.server.memory import SharedMemory
from raymlops.train.server.roster import Roster
from raymlops.train.server.settings import ServerSpec
from raymlops.train.server.sync import Progress, Sync

Witness = Callable[[int, Sequence[Push[Any]], float, int], None]
"""Told of a block, the pushes of an update, the factor of their mean and its version, before that
is committed."""


class Shard:
    """Events come in by the methods, answers come out of `advance`. Not for several threads.

    What must survive lies in `blocks` and `roster`. Pushes that wait and pulls do not: whoever was
    not answered asks again.

    With `clip_norm` a round waits for the norm of the mean gradient, of which each shard knows a
    part. Any of its workers brings it:

        push ─▶ measure ─▶ square of this part ─▶ sum over shards ─▶ weigh ─▶ update
    """

    def __init__(
        self,
        blocks: Sequence[Block[Any]],
        roster: Roster,
        sync: Sync,
        *,
        clip_norm: float | None = None,
    ) -> None:
        self.blocks = blocks
        self.roster = roster
        self.witness: Witness | None = None
        self._clip_norm = clip_norm
        self._sync = sync
        self._counts = {field.name: 0 for field in fields(Counters)}
        self._arrivals = 0
        self._pushes: list[dict[int, dict[int, tuple[int, Push[Any]]]]] = [{} for _ in blocks]
        self._pulls: dict[tuple[int, int], Pull] = {}
        self._pins: dict[tuple[int, int], int] = {}
        self._measures: dict[int, Measure] = {}
        self._square: tuple[Sequence[tuple[int, int]], float] = ((), 0.0)

    def load(self, first: Sequence[Sequence[NDArray[Any]]], version: int = 0) -> None:
        """Puts the first parameters of all blocks into place, unless it has been done; what follows
        them are states of the optimizer, of all blocks each."""
        if not self.roster.is_loaded:
            for block, (values, *states) in zip(self.blocks, zip(*first, strict=True), strict=True):
                block.load(values, states, version)
            self.roster.note_loaded()

    @property
    def counters(self) -> Counters:
        return Counters(**self._counts)

    def join(self, worker: int, incarnation: int, *, pid: int, started_s: float) -> tuple[int, ...]:
        """Counts a worker among the living, and returns its last applied push to each block.

        A process that comes back (same `incarnation`) goes on where it was; a new one under the
        same number starts at the clock of the slowest living worker.
        """
        self._forget(worker)
        if self.roster.incarnation(worker) != incarnation:
            for block in self.blocks:
                clocks = self._clocks(block)
                clocks.pop(worker, None)
                if clocks:
                    slowest = min(clocks.values())
                    block.bases[worker] = slowest - int(block.sequences[worker])
        # After the bases: cut off in between, this join is a new one again.
        self.roster.enter(worker, incarnation, pid=pid, started_s=started_s)
        return tuple(int(block.sequences[worker]) for block in self.blocks)

    def why_closed(self, worker: int, incarnation: int) -> str | None:
        """Why a process cannot become this worker any more; None if it can, or is it already."""
        if self.roster.incarnation(worker) == incarnation or not self.roster.weighed:
            return None
        return (
            f"clips the gradients of rounds that have begun, which worker {worker} would take part "
            "in on some shards only: start the server anew"
        )

    def leave(self, worker: int) -> None:
        """The worker has ended: nobody waits for it, its unanswered pushes are dropped."""
        self._forget(worker)
        self.roster.leave(worker)

    def push(self, block: int, push: Push[Any]) -> None:
        """Takes a push in; what comes too early for its number waits for those before it."""
        self._arrivals += 1
        waiting = self._pushes[block].setdefault(push.worker, {})
        waiting[push.sequence] = (self._arrivals, push)

    def pull(self, pull: Pull) -> None:
        self._pulls[pull.worker, pull.block] = pull
        ready = self._may_pull(pull)
        self._count(num_pulls=1, num_waits=0 if ready else 1)

    def measure(self, measure: Measure) -> None:
        self._measures[measure.worker] = measure

    def weigh(self, version: int, norm: float) -> None:
        """Tells the norm, over all shards, of the mean that makes `version`; counts once."""
        due = 1 + max(block.version for block in self.blocks)
        if version == due and self.roster.weighed < version:
            self.roster.weigh(version, norm)

    def release(self, worker: int, block: int) -> None:
        """The worker has read what it was granted."""
        self._pins.pop((worker, block), None)

    def advance(self) -> list[Answer]:
        """Answers what can be answered, after at most one update a block; [] when all is done."""
        answers: list[Answer] = self._measured() if self._measures else []
        for number, block in enumerate(self.blocks):
            answers += self._repeated(number, block)
            answers += self._granted(number, block)
            answers += self._updated(number, block)
        return answers

    def copy(self) -> ShardCopy:
        """All that must survive, at the newest versions."""
        blocks = tuple(block.copy() for block in self.blocks)
        return ShardCopy(roster=self.roster.to_bytes(), blocks=blocks)

    def restore(self, copy: ShardCopy) -> None:
        """Becomes what another copy of this shard was, on another node."""
        for block, theirs in zip(self.blocks, copy.blocks, strict=True):
            block.restore(theirs)
        self.roster.restore(copy.roster)
        self.roster.forget_processes()

    def _repeated(self, number: int, block: Block[Any]) -> list[Answer]:
        """Acknowledges again what was applied before its worker heard of it."""
        answers: list[Answer] = []
        if not self._pushes[number]:
            return answers
        sequences = block.sequences
        for worker, waiting in self._pushes[number].items():
            for sequence in [each for each in waiting if each <= sequences[worker]]:
                del waiting[sequence]
                answers.append(Applied(worker=worker, block=number, sequence=sequence))
        self._count(num_repeated=len(answers))
        return answers

    def _granted(self, number: int, block: Block[Any]) -> list[Answer]:
        answers: list[Answer] = []
        for key, pull in list(self._pulls.items()):
            if pull.block == number and self._may_pull(pull):
                del self._pulls[key]
                self._pins[key] = block.version % 2
                answers.append(Granted(worker=pull.worker, block=number, version=block.version))
        return answers

    def _updated(self, number: int, block: Block[Any]) -> list[Answer]:
        if not self._pushes[number]:
            return []
        pushes, factor = self._next_update(number), self._factor(block)
        target = (block.version + 1) % 2
        if (
            not pushes
            or factor is None
            or any(
                pinned == number and buffer == target for (_, pinned), buffer in self._pins.items()
            )
        ):
            return []
        witness = self.witness
        confirm = partial(witness, number, pushes, factor) if witness is not None else None
        block.update(pushes, confirm, factor=factor)
        for push in pushes:
            queue = self._pushes[number][push.worker]
            del queue[push.sequence]
            if not queue:
                del self._pushes[number][push.worker]
        self._count(num_updates=1, num_pushes=len(pushes))
        return [
            Applied(worker=push.worker, block=number, sequence=push.sequence) for push in pushes
        ]

    def _measured(self) -> list[Answer]:
        answers: list[Answer] = []
        version = 1 + max(block.version for block in self.blocks)
        weighed, norm = self.roster.weighed, self.roster.norm
        for measure in list(self._measures.values()):
            worker = measure.worker
            if weighed == version or self._is_applied(measure):
                answers.append(Measured(worker=worker, version=0, value=norm))
                del self._measures[worker]
        rounds = [self._next_update(number) for number in range(len(self.blocks))]
        # Cut off between two blocks, a shard goes on with a round that was weighed.
        if self._measures and weighed < version and all(rounds):
            square = self._square_of(rounds)
            for worker in {push.worker for push in rounds[0]} & self._measures.keys():
                answers.append(Measured(worker=worker, version=version, value=square))
                del self._measures[worker]
        return answers

    def _square_of(self, rounds: Sequence[Sequence[Push[Any]]]) -> float:
        """Over all blocks; computed once for the same pushes."""
        key = [(push.worker, push.sequence) for pushes in rounds for push in pushes]
        if key != self._square[0]:
            pairs = zip(self.blocks, rounds, strict=True)
            self._square = key, sum(block.square(pushes) for block, pushes in pairs)
        return self._square[1]

    def _is_applied(self, measure: Measure) -> bool:
        return any(
            int(block.sequences[measure.worker]) >= measure.sequence for block in self.blocks
        )

    def _factor(self, block: Block[Any]) -> float | None:
        """What the mean of the next update is multiplied by; None as long as it is not known."""
        if self._clip_norm is None:
            return 1.0
        if self.roster.weighed != block.version + 1:
            return None
        return min(1.0, self._clip_norm / (self.roster.norm + 1e-6))

    def _next_update(self, number: int) -> list[Push[Any]]:
        """The pushes that would be one update of a block now; none if it has to wait."""
        workers = self._sync.next_update(self._progress(number))
        queues = [self._pushes[number][worker] for worker in workers]
        return [queue[min(queue)][1] for queue in queues]

    def _may_pull(self, pull: Pull) -> bool:
        clock = pull.sequence + int(self.blocks[pull.block].bases[pull.worker])
        return self._sync.may_pull(self._progress(pull.block), worker=pull.worker, clock=clock)

    def _progress(self, number: int) -> Progress:
        block = self.blocks[number]
        sequences = block.sequences
        first = {
            worker: queue[int(sequences[worker]) + 1][0]
            for worker, queue in self._pushes[number].items()
            if int(sequences[worker]) + 1 in queue
        }
        return Progress(
            clocks=self._clocks(block),
            waiting=tuple(sorted(first, key=first.__getitem__)),
            num_seen=self.roster.num_seen,
        )

    def _clocks(self, block: Block[Any]) -> dict[int, int]:
        sequences, bases = block.sequences, block.bases
        return {
            worker: int(sequences[worker]) + int(bases[worker]) for worker in self.roster.living
        }

    def _forget(self, worker: int) -> None:
        self._measures.pop(worker, None)
        for waiting in self._pushes:
            waiting.pop(worker, None)
        for number in range(len(self.blocks)):
            self._pulls.pop((worker, number), None)
            self._pins.pop((worker, number), None)

    def _count(self, **more: int) -> None:
        for name, count in more.items():
            self._counts[name] += count


def make_shard(spec: ServerSpec, share: NodeShare, index: int, memory: SharedMemory) -> Shard:
    """Shard `index`, with all that must survive in `memory`, an arena of its node."""
    arena = Arena(share, spec.optimizer.num_states, memory)
    blocks: list[Block[Any]] = []
    for block in range(1 + len(spec.partition.tables)):
        made = DenseBlock if block == DENSE else RowBlock
        header, buffers = arena.header(index, block), arena.buffers(index, block)
        blocks.append(made(header, buffers, spec.optimizer))
    return Shard(blocks, Roster(arena.roster(index)), spec.sync, clip_norm=spec.clip_norm)
