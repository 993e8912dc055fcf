"""The loop of a shard's process: sockets, deaths and calls from other threads, one at a time."""

from __future__ import annotations

import contextlib
import logging
import os
import queue
import selectors
import socket
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from typing import Any, Never, TypeVar

import numpy as np

from raymlops.errors import TrainingError
from raymlops.train.server.arena import DENSE, Slots
from raymlops.train.server.block import Push
from raymlops.train.server.events import Answer, Applied, Measure, Measured, Pull
from raymlops.train.server.memory import SharedMemory
from raymlops.train.server.rows import Rows
from raymlops.train.server.settings import ServerSpec
from raymlops.train.server.shard import Shard
from raymlops.train.server.vigil import Vigil, started_s
from raymlops.train.server.wire import (
    Kind,
    Message,
    address_of,
    check_peer,
    listen,
    receive,
    send,
    tail_of,
)

_logger = logging.getLogger(__name__)

_ADDRESS_TIMEOUT_S = 10.0

Result = TypeVar("Result")


@dataclass
class _Line:
    """A connection; of a worker once it has said hello."""

    socket: socket.socket
    worker: int | None = None
    slots: Slots | None = None


class Service:
    """Serves one shard to the workers of its node by sockets, and to others through `call`.

    A worker of this node is dead when its socket ends; on those without one a `Vigil` is kept.
    """

    def __init__(
        self,
        shard: Shard,
        *,
        index: int,
        arena: SharedMemory,
        spec: ServerSpec,
    ) -> None:
        self.shard = shard
        self._index = index
        self._arena = arena
        self._spec = spec
        self._lines: dict[int, _Line] = {}
        self._calls: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._selector = selectors.DefaultSelector()
        self._vigil = Vigil(
            shard,
            self._selector,
            lease_s=spec.settings.lease_s,
            fall_silent=self._tell_silent,
        )
        self._bell = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._waiting: dict[tuple[Any, ...], Future[Any]] = {}

    def serve(self) -> Never:
        """Runs until the process ends."""
        with contextlib.closing(self._listen()) as listener, self._selector:
            self._selector.register(listener, selectors.EVENT_READ, partial(self._accept, listener))
            self._selector.register(self._bell, selectors.EVENT_READ, self._answer_calls)
            for worker in sorted(self.shard.roster.living):
                self._vigil.watch(worker)
            answers: list[Answer] = []
            while True:
                for key, _ in self._selector.select(0 if answers else self._vigil.patience_s):
                    key.data()
                self._vigil.bury(time.monotonic())
                answers = self.shard.advance()
                for answer in answers:
                    self._deliver(answer)

    def call(self, function: Callable[[], Result]) -> Future[Result]:
        """Runs `function` between two events of the loop; for other threads."""
        future: Future[Result] = Future()

        def run() -> None:
            try:
                future.set_result(function())
            except Exception as error:  # it belongs to the caller, in another thread
                future.set_exception(error)

        self._calls.put(run)
        os.eventfd_write(self._bell, 1)
        return future

    def join(self, worker: int, incarnation: int) -> tuple[int, ...]:
        """For `call`: a worker of another node comes, in place of a process that was the same one;
        its last applied push to each block."""
        if (why := self._why_refused(worker, incarnation)) is not None:
            raise TrainingError(f"shard {self._index} {why}")
        self._relieve(worker, incarnation)
        self._vigil.hear(worker)
        return self.shard.join(worker, incarnation, pid=0, started_s=0.0)

    def contact(self, worker: int, incarnation: int) -> None:
        """For `call`: a worker of another node, which has joined, lives.

        Raises:
            TrainingError: another process has joined in its place.
        """
        if self.shard.roster.incarnation(worker) != incarnation:
            raise TrainingError(f"shard {self._index} {self._replaced(worker)}")
        self._vigil.hear(worker)
        if not self.shard.roster.is_living(worker, incarnation):
            self.shard.join(worker, incarnation, pid=0, started_s=0.0)

    def leave(self, worker: int, incarnation: int) -> None:
        """For `call`: a worker of another node has ended."""
        if self.shard.roster.is_living(worker, incarnation):
            self._vigil.relieve(worker)
            self.shard.leave(worker)

    def push(self, block: int, push: Push[Any]) -> Future[int]:
        """For `call`: takes a push in; the future ends when it is applied."""
        self.shard.push(block, push)
        return self._wait("push", push.worker, block, push.sequence)

    def pull(self, pull: Pull) -> Future[int]:
        """For `call`: the future ends with the version granted."""
        self.shard.pull(pull)
        return self._wait("pull", pull.worker, pull.block)

    def measure(self, measure: Measure) -> Future[tuple[int, float]]:
        """For `call`: the future ends with the version and value of a Measured."""
        self.shard.measure(measure)
        return self._wait("measure", measure.worker)

    def _wait(self, *key: Any) -> Future[Any]:
        return self._waiting.setdefault(key, Future())

    def _listen(self) -> socket.socket:
        deadline = time.monotonic() + _ADDRESS_TIMEOUT_S
        while True:
            try:
                return listen(address_of(self._spec.name, self._index))
            except OSError:  # the process before this one is still being taken down
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.01)

    def _answer_calls(self) -> None:
        os.eventfd_read(self._bell)
        with contextlib.suppress(queue.Empty):
            while True:
                self._calls.get_nowait()()

    def _accept(self, listener: socket.socket) -> None:
        connection, _ = listener.accept()
        try:
            check_peer(connection)
        except ConnectionRefusedError as error:
            _logger.warning("shard %d refuses a connection: %s", self._index, error)
            connection.close()
            return
        line = _Line(connection)
        self._lines[connection.fileno()] = line
        self._selector.register(connection, selectors.EVENT_READ, partial(self._read, line))

    def _read(self, line: _Line) -> None:
        if line.socket.fileno() < 0:  # closed by another event of the same round
            return
        try:
            message, descriptors = receive(line.socket)
            self._handle(line, message, descriptors)
        except ConnectionError:
            self._drop(line)

    def _handle(self, line: _Line, message: Message, descriptors: list[int]) -> None:
        match message.kind:
            case Kind.HELLO:
                self._welcome(line, message, descriptors)
            case Kind.ADOPT:
                send(line.socket, Message(kind=Kind.WELCOME), self._arena.descriptor)
            case Kind.PUSH:
                self._take(line, message)
            case Kind.PULL if line.worker is not None:
                self.shard.pull(
                    Pull(worker=line.worker, block=message.block, sequence=message.number)
                )
            case Kind.MEASURE if line.worker is not None:
                self.shard.measure(Measure(worker=line.worker, sequence=message.number))
            case Kind.WEIGH if line.worker is not None:
                self.shard.weigh(message.number, message.value)
            case Kind.RELEASE if line.worker is not None:
                self.shard.release(line.worker, message.block)
            case _:
                self._drop(line)

    def _welcome(self, line: _Line, message: Message, descriptors: list[int]) -> None:
        pid, worker = check_peer(line.socket), message.slot
        slots = SharedMemory(descriptors[0], writable=False)
        slots.close()
        if not self.shard.roster.is_loaded:
            self._refuse(line, "holds no parameters", final=False)
            return
        if (why := self._why_refused(worker, message.number)) is not None:
            self._refuse(line, why, final=True)
            return
        self._relieve(worker, message.number)
        line.worker = worker
        line.slots = Slots(self._spec.partition, self._spec.settings.num_slots, slots)
        sequences = self.shard.join(worker, message.number, pid=pid, started_s=started_s(pid))
        tail = np.array(sequences, np.uint64).tobytes()
        send(line.socket, Message(kind=Kind.WELCOME, tail=tail), self._arena.descriptor)

    def _why_refused(self, worker: int, incarnation: int) -> str | None:
        """Why a process cannot be this worker; None if it can, in place of whoever was it."""
        for other in [other for other in self._lines.values() if other.worker == worker]:
            if not _has_ended(other.socket):
                holder = check_peer(other.socket)
                return f"has a worker {worker}, process {holder}: give each a number of its own"
            self._drop(other)
        return self.shard.why_closed(worker, incarnation)

    def _relieve(self, worker: int, incarnation: int) -> None:
        """Ends the watch on whoever was this worker, and the calls of another process."""
        self._vigil.relieve(worker)
        if self.shard.roster.incarnation(worker) != incarnation:
            self._end_calls(worker, self._replaced(worker))

    def _replaced(self, worker: int) -> str:
        return f"has another process as worker {worker} by now: give each a number of its own"

    def _refuse(self, line: _Line, reason: str, *, final: bool) -> None:
        tail = f"shard {self._index} {reason}".encode()
        send(line.socket, Message(kind=Kind.REFUSED, number=int(final), tail=tail))
        self._drop(line)

    def _take(self, line: _Line, message: Message) -> None:
        if line.worker is None or line.slots is None:
            self._drop(line)
            return
        gradient: Any
        if message.block == DENSE:
            gradient = line.slots.dense_of(self._index, message.slot)
        else:
            keys, values = line.slots.rows_of(self._index, message.block, message.slot)
            gradient = Rows(keys[: message.count], values[: message.count])
        push = Push(worker=line.worker, sequence=message.number, gradient=gradient)
        self.shard.push(message.block, push)

    def _deliver(self, answer: Answer) -> None:
        line = next((each for each in self._lines.values() if each.worker == answer.worker), None)
        key: tuple[Any, ...]
        result: Any
        if isinstance(answer, Applied):
            key, result = ("push", answer.worker, answer.block, answer.sequence), answer.sequence
            message = Message(kind=Kind.APPLIED, block=answer.block, number=answer.sequence)
        elif isinstance(answer, Measured):
            key, result = ("measure", answer.worker), (answer.version, answer.value)
            tail = tail_of(answer.value)
            message = Message(kind=Kind.MEASURED, number=answer.version, tail=tail)
        else:
            key, result = ("pull", answer.worker, answer.block), answer.version
            message = Message(kind=Kind.GRANTED, block=answer.block, number=answer.version)
        if (future := self._waiting.pop(key, None)) is not None:
            future.set_result(result)
        elif line is not None:
            try:
                send(line.socket, message)
            except ConnectionError:
                self._drop(line)

    def _drop(self, line: _Line) -> None:
        """Ends a connection, and counts its worker as dead."""
        if self._lines.pop(line.socket.fileno(), None) is None:
            return
        self._selector.unregister(line.socket)
        line.socket.close()
        if line.worker is not None:
            self.shard.leave(line.worker)

    def _tell_silent(self, worker: int) -> None:
        """Ends the calls of a worker elsewhere that counts as dead."""
        self._end_calls(
            worker,
            f"heard nothing of worker {worker} for {self._spec.settings.lease_s} s and dropped "
            "what it had not answered; make a new client, or give lease_s more",
        )

    def _end_calls(self, worker: int, why: str) -> None:
        for key in [key for key in self._waiting if key[1] == worker]:
            self._waiting.pop(key).set_exception(TrainingError(f"shard {self._index} {why}"))


def _has_ended(line: socket.socket) -> bool:
    try:
        return line.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) == b""
    except BlockingIOError:
        return False
    except ConnectionError:
        return True
