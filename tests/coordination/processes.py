"""Other processes of the tests: each is told what to do through a pipe and answers through it."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from raymlops.errors import CoordinationError
from tests.coordination.places import Place
from tests.processes import PROCESSES


class Other:
    """A process that runs `act(pipe, *arguments)`."""

    def __init__(self, act: Callable[..., None], *arguments: Any) -> None:
        self.pipe, theirs = PROCESSES.Pipe()
        self.process = PROCESSES.Process(target=act, args=(theirs, *arguments), daemon=True)
        self.process.start()
        theirs.close()

    @property
    def pid(self) -> int:
        assert self.process.pid is not None
        return self.process.pid

    def hear(self, timeout_s: float = 120.0) -> Any:
        assert self.pipe.poll(timeout_s), f"process {self.pid} said nothing"
        return self.pipe.recv()

    def tell(self, message: object = None) -> None:
        self.pipe.send(message)

    def end(self) -> None:
        self.process.kill()
        self.process.join()
        self.pipe.close()


def until(condition: Callable[[], object], timeout_s: float = 120.0) -> None:
    """Returns once `condition` holds."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "the condition never came true"
        time.sleep(0.005)


def hold(pipe: Connection, place: Place, name: str) -> None:
    """Says that it waits, then its token; releases when told, and says so."""
    with place.connect() as coordinator:
        pipe.send("waiting")
        try:
            with coordinator.hold(name) as lease:
                pipe.send(lease.token)
                pipe.recv()
        except KeyboardInterrupt:
            pipe.send("cancelled")
        else:
            pipe.send("released")
        pipe.recv()


def append_tokens(pipe: Connection, place: Place, name: str, path: Path, rounds: int) -> None:
    """Adds a line with its token and the number of lines it saw, without any other protection."""
    with place.connect() as coordinator:
        for _ in range(rounds):
            with coordinator.hold(name, timeout_s=120) as lease:
                lines = path.read_text()
                path.write_text(f"{lines}{lease.token} {lines.count(chr(10))}\n")
    pipe.send("done")


def add_to_counter(pipe: Connection, place: Place, name: str, rounds: int) -> None:
    with place.connect() as coordinator:
        pipe.send([coordinator.counter(name).add(1) for _ in range(rounds)])


def enter_barrier(pipe: Connection, place: Place, name: str, parties: list[str], me: str) -> None:
    """Enters whenever it is told a timeout, and says which crossing it was or what went wrong."""
    with place.connect() as coordinator:
        barrier = coordinator.barrier(name, parties)
        while (timeout_s := pipe.recv()) is not None:
            try:
                pipe.send(barrier.enter(me, timeout_s=timeout_s))
            except CoordinationError as error:
                pipe.send(str(error))


def lead(pipe: Connection, place: Place, name: str, candidate: str) -> None:
    with place.connect() as coordinator:

        def act(lease: Any) -> str:
            pipe.send(lease.token)
            pipe.recv()
            return "resigned"

        pipe.send(coordinator.election(name, candidate=candidate).run(act))


def write_values(pipe: Connection, place: Place, key: str, count: int) -> None:
    with place.connect() as coordinator:
        values = coordinator.key_value("values")
        for number in range(count):
            values.set(key, b"%d" % number)
        pipe.send("done")


def write_while_leading(pipe: Connection, place: Place, name: str) -> None:
    """Once a round: takes the lock, then writes with its token until a write is refused.

    Every write is a question through the pipe, answered by whoever keeps what is written.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with place.connect() as coordinator:
        while pipe.recv() == "next round":
            with coordinator.hold(name, timeout_s=120) as lease:
                pipe.send(lease.token)
                while pipe.recv() == "accepted":
                    pipe.send(lease.token)


def work_in_turns(pipe: Connection, place: Place, name: str) -> None:
    """Holds the lock over and over; reports (token, taken at, given up at) of each hold."""
    coordinator = place.connect()
    while True:
        try:
            with coordinator.hold(name, timeout_s=120) as lease:
                taken = time.monotonic()
                time.sleep(0.002)
                lease.check()
                given_up = time.monotonic()
            pipe.send((lease.token, taken, given_up))
        except CoordinationError:
            continue  # the lease was lost: what was done under it does not count
