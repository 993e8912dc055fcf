"""The line to a shard on the same node: a socket as doorbell, shared memory for all that is big."""

from __future__ import annotations

import socket
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from raymlops.errors import LostShardError, TrainingError
from raymlops.train.server import wire
from raymlops.train.server.arena import Arena, NodeShare
from raymlops.train.server.memory import SharedMemory
from raymlops.train.server.payload import Payload
from raymlops.train.server.rows import Rows
from raymlops.train.server.settings import PATIENCE_S, ServerSpec
from raymlops.train.server.wire import Kind, Message

_RETRY_S = 0.01


@dataclass(frozen=True, kw_only=True)
class _Sent:
    sequence: int
    slot: int
    count: int


class LocalLink:
    """A line to `shard` of the same node. Waits for it when it has died, and sends again."""

    def __init__(
        self,
        spec: ServerSpec,
        share: NodeShare,
        shard: int,
        *,
        worker: int,
        incarnation: int,
        slots: SharedMemory,
    ) -> None:
        self.arena: Arena
        self._spec = spec
        self._share = share
        self._shard = shard
        self._worker = worker
        self._incarnation = incarnation
        self._slots = slots
        self._socket: socket.socket | None = None
        num_blocks = 1 + len(spec.partition.tables)
        self._sequences = [0] * num_blocks
        self._sent: list[deque[_Sent]] = [deque() for _ in range(num_blocks)]
        self._granted: dict[int, int | None] = {}
        self._keys: dict[int, NDArray[np.int64] | None] = {}
        self._measure: Message | None = None
        self._measured: Message | None = None
        self._weigh: Message | None = None
        self._sequences = self._connect()

    def push(self, block: int, gradient: NDArray[Any] | Rows | Payload, *, slot: int) -> None:
        """The gradient lies in the slot already."""
        self._sequences[block] += 1
        count = len(gradient.keys) if isinstance(gradient, Rows) else 0
        sent = _Sent(sequence=self._sequences[block], slot=slot, count=count)
        self._sent[block].append(sent)
        self._send(_push(block, sent))

    def wait_room(self, block: int, *, in_flight: int) -> None:
        while len(self._sent[block]) > in_flight:
            self._hear()

    def ask(self, block: int, keys: NDArray[np.int64] | None = None) -> None:
        self._keys[block] = keys
        if not self._spec.sync.steady:
            self._granted[block] = None
            self._send(self._pull(block))

    def wait_version(self, block: int) -> int:
        """Waits for what was asked for; it is pinned until `release`, or steady."""
        if self._spec.sync.steady:  # with this worker's pushes in it, and until the next of them
            self.wait_room(block, in_flight=0)
            return int(self.arena.header(self._shard, block)["committed"])
        while (version := self._granted[block]) is None:
            self._hear()
        return version

    def release(self, block: int) -> None:
        if not self._spec.sync.steady:
            del self._granted[block]
            self._send(Message(kind=Kind.RELEASE, block=block))

    def read(self, block: int, out: NDArray[Any]) -> int:
        keys = self._keys[block]
        while True:
            version = self.wait_version(block)
            source = self.arena.buffers(self._shard, block)[version % 2][0]
            np.copyto(out, source if keys is None else source[keys])
            # Pins die with the shard's process: the next one may have begun to write over it.
            if int(self.arena.header(self._shard, block)["begun"]) <= version + 1:
                self.release(block)
                return version
            self.ask(block, keys)

    def measure(self, sequence: int) -> None:
        self._measured, self._measure = None, Message(kind=Kind.MEASURE, number=sequence)
        self._send(self._measure)

    def measured(self) -> tuple[int, float]:
        while self._measured is None:
            self._hear()
        self._measure = None
        return self._measured.number, self._measured.value

    def weigh(self, version: int, norm: float) -> None:
        self._weigh = Message(kind=Kind.WEIGH, number=version, tail=wire.tail_of(norm))
        self._send(self._weigh)

    def take(self, block: int) -> tuple[int, Sequence[NDArray[Any]]]:
        version = int(self.arena.header(self._shard, block)["committed"])
        return version, self.arena.buffers(self._shard, block)[version % 2]

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _pull(self, block: int) -> Message:
        return Message(kind=Kind.PULL, block=block, number=self._sequences[block])

    def _line(self) -> socket.socket:
        if self._socket is None:
            raise TrainingError(f"worker {self._worker} has closed its client; make a new one")
        return self._socket

    def _send(self, message: Message) -> None:
        line = self._line()
        try:
            wire.send(line, message)
        except ConnectionError:
            self._connect()  # which sends all that is not answered, this among it

    def _hear(self) -> None:
        """Takes in one message of the shard."""
        line = self._line()
        try:
            message, _ = self._receive(line)
        except ConnectionError:
            self._connect()
            return
        if message.kind == Kind.APPLIED:
            self._forget(message.block, message.number)
        elif message.kind == Kind.GRANTED:
            self._granted[message.block] = message.number
        elif message.kind == Kind.MEASURED:
            self._measured = message

    def _receive(self, line: socket.socket) -> tuple[Message, list[int]]:
        try:
            return wire.receive(line)
        except BlockingIOError as error:
            self.close()
            raise LostShardError(
                f"worker {self._worker} heard nothing of shard {self._shard} for "
                f"{PATIENCE_S / 60:g} minutes: the shard hangs, or a worker that it waits for"
            ) from error

    def _forget(self, block: int, sequence: int) -> None:
        while self._sent[block] and self._sent[block][0].sequence <= sequence:
            self._sent[block].popleft()

    def _connect(self) -> list[int]:
        """Joins the shard, and sends what it has not answered; its last applied pushes."""
        while True:
            applied = self._join()
            for block, sequence in enumerate(applied):
                self._forget(block, sequence)
            try:
                for message in self._unanswered():
                    wire.send(self._line(), message)
            except ConnectionError:
                continue
            return applied

    def _unanswered(self) -> Iterator[Message]:
        for block, queue in enumerate(self._sent):
            yield from (_push(block, sent) for sent in queue)
        yield from (self._pull(block) for block, told in self._granted.items() if told is None)
        yield from (each for each in (self._measure, self._weigh) if each is not None)

    def _join(self) -> list[int]:
        deadline = time.monotonic() + self._spec.settings.timeout_s
        while True:
            try:
                return self._hello()
            except ConnectionError as error:
                if time.monotonic() > deadline:
                    raise LostShardError(
                        f"worker {self._worker} could not reach shard {self._shard} within "
                        f"{self._spec.settings.timeout_s} s: {error}; start the server anew, or "
                        "give timeout_s more"
                    ) from error
            time.sleep(_RETRY_S)

    def _hello(self) -> list[int]:
        self.close()
        self._socket = wire.connect(wire.address_of(self._spec.name, self._shard))
        wire.be_patient(self._socket, PATIENCE_S)
        hello = Message(kind=Kind.HELLO, slot=self._worker, number=self._incarnation)
        wire.send(self._socket, hello, self._slots.descriptor)
        message, descriptors = self._receive(self._socket)
        if message.kind == Kind.REFUSED:
            self.close()
            refusal = TrainingError if message.number else ConnectionRefusedError
            raise refusal(message.tail.decode())
        memory = SharedMemory(descriptors[0], writable=False)
        memory.close()
        self.arena = Arena(self._share, self._spec.optimizer.num_states, memory)
        sequences: list[int] = np.frombuffer(message.tail, np.uint64).tolist()
        return sequences


def _push(block: int, sent: _Sent) -> Message:
    return Message(
        kind=Kind.PUSH, block=block, slot=sent.slot, number=sent.sequence, count=sent.count
    )
