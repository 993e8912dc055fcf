"""Requests that fail while replicas and doors die, leave and come, and memory under rude clients.

python -m benchmarks.serving_faults [--quick]

Real processes of ours, as Ray Serve hosts them: a door, replicas that are killed (SIGKILL) or end
(SIGTERM, as in an update), and closed-loop keep-alive clients whose every answer is checked.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from http.client import HTTPConnection, HTTPException
from pathlib import Path

import psutil

from benchmarks.figures import Figure, report
from benchmarks.serving.clients import Clients
from benchmarks.serving.places import KEY, MODEL
from benchmarks.serving.world import make_world

PATH = f"/v2/models/{MODEL}/infer"
NUM_CLIENTS = 8
HEADERS = {"content-type": "application/json", "authorization": f"Bearer {KEY}"}


class System:
    """A door and replicas, which can be started, killed and ended."""

    def __init__(self, folder: Path, port: int) -> None:
        self.folder, self.port = folder, port
        self.replicas: list[subprocess.Popen[bytes]] = []
        self.open_door()

    def open_door(self) -> None:
        self.door = _start("door", str(self.folder), str(self.port))

    def add_replica(self) -> None:
        self.replicas.append(_start("replica", str(self.folder)))

    def kill_oldest(self) -> None:
        oldest = self.replicas.pop(0)
        oldest.kill()
        oldest.wait()

    def end_oldest(self) -> None:
        oldest = self.replicas.pop(0)
        oldest.send_signal(signal.SIGTERM)
        oldest.wait(60)

    def close(self) -> None:
        for process in (*self.replicas, self.door):
            process.kill()
            process.wait()


class Load(Clients):
    """Clients that ask without pause; `failed` counts what got no right answer in `attempts`."""

    def __init__(self, system: System, *, attempts: int) -> None:
        super().__init__(NUM_CLIENTS)
        told = json.loads((system.folder / "bodies.json").read_text())
        self._rows = list(zip(told["bodies"], told["answers"], strict=True))
        self._port, self._attempts = system.port, attempts
        self.asked = self.failed = self.cut = 0
        self._lock = threading.Lock()

    @property
    def num_answered(self) -> int:
        return self.asked

    def ask(self, client: int) -> None:
        connection, number = HTTPConnection("127.0.0.1", self._port, timeout=60), client
        while not self.done.is_set():
            number = (number + NUM_CLIENTS) % len(self._rows)
            body, wanted = self._rows[number]
            for _ in range(self._attempts):
                if right := self._is_right(connection, body, wanted):
                    break
            with self._lock:
                self.asked += 1
                self.failed += not right
        connection.close()

    def _is_right(self, connection: HTTPConnection, body: str, wanted: float) -> bool:
        try:
            connection.request("POST", PATH, body, HEADERS)
            response = connection.getresponse()
            told = json.loads(response.read())
        except (OSError, HTTPException, ValueError):
            connection.close()
            with self._lock:
                self.cut += 1
            return False
        return response.status == 200 and abs(told["outputs"][0]["data"][0] - wanted) < 1e-4


def kills(system: System, rounds: int, *, attempts: int) -> Load:
    """Kills the oldest of two replicas, which serves, and starts another, again and again."""
    with Load(system, attempts=attempts) as load:
        for _ in range(rounds):
            load.wait(200)
            system.add_replica()
            _until_standing(system, 3)
            system.kill_oldest()
        load.wait(200)
    return load


def updates(system: System, rounds: int) -> Load:
    """Replaces replicas one by one, as an update does: the new one first."""
    with Load(system, attempts=1) as load:
        for _ in range(rounds):
            load.wait(200)
            system.add_replica()
            _until_standing(system, 3)
            system.end_oldest()
        load.wait(200)
    return load


def scaling(system: System) -> Load:
    """From two replicas to three and down to one, and up again."""
    with Load(system, attempts=1) as load:
        system.add_replica()
        _until_standing(system, 3)
        for _ in range(2):
            load.wait(200)
            system.end_oldest()
        load.wait(200)
        system.add_replica()
        _until_standing(system, 2)
        load.wait(200)
    return load


def doors(system: System, rounds: int) -> Load:
    """Kills the door under load, and opens it again while new clients come."""
    with Load(system, attempts=1) as load:
        for _ in range(rounds):
            load.wait(200)
            system.door.kill()
            system.door.wait()
            fresh = HTTPConnection("127.0.0.1", system.port, timeout=60)
            fresh.connect()
            system.open_door()
            fresh.request("POST", PATH, load._rows[0][0], HEADERS)
            load.failed += fresh.getresponse().status != 200
            fresh.close()
    return load


def rude_clients(system: System, number: int, num_slow: int) -> tuple[Load, float]:
    """Connections opened and dropped, some in the middle of a request, beside slow ones that stay;
    returns by how much the processes grew over the second half of them, in MiB. What the most at a
    time took is not given back to the system, so that the first half raises memory once."""
    slow = [socket.create_connection(("127.0.0.1", system.port)) for _ in range(num_slow)]
    for each in slow:
        each.sendall(f"POST {PATH} HTTP/1.1\r\nHost: a\r\n".encode())
    with Load(system, attempts=1) as load:
        load.wait(200)
        half = f"POST {PATH} HTTP/1.1\r\nHost: a\r\nContent-Length: 900\r\n\r\n{{".encode()
        _open_and_drop(system.port, number // 2, half)
        before = _memory_mib(system)
        _open_and_drop(system.port, number // 2, half)
        grown = _memory_mib(system) - before
        load.wait(200)
    for each in slow:
        each.close()
    return load, grown


def _open_and_drop(port: int, number: int, half: bytes) -> None:
    for turn in range(number):
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)) as opened:
            if turn % 2:
                opened.sendall(half)


def _memory_mib(system: System) -> float:
    pids = [each.pid for each in (system.door, *system.replicas)]
    return sum(psutil.Process(pid).memory_info().rss for pid in pids) / 2**20


def _start(*arguments: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-m", "benchmarks.serving.server", *arguments])


def _until_standing(system: System, number: int) -> None:
    """Returns when that many replicas have connections."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        with contextlib.suppress(psutil.NoSuchProcess):
            counts = [_connections(each.pid, system.port) for each in system.replicas]
            if sum(count > 0 for count in counts) >= number:
                return
        time.sleep(0.05)
    raise SystemExit(f"not {number} replicas have connections within 120 s")


def _connections(pid: int, port: int) -> int:
    found = psutil.Process(pid).net_connections("tcp")
    return sum(each.status == "ESTABLISHED" and each.laddr.port == port for each in found)


@contextlib.contextmanager
def _system() -> Iterator[System]:
    with tempfile.TemporaryDirectory() as name:
        make_world(Path(name))
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        system = System(Path(name), port)
        try:
            system.add_replica()
            system.add_replica()
            with Load(system, attempts=1000) as load:
                load.wait(50)
                _until_standing(system, 2)
            yield system
        finally:
            system.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one round of each")
    quick = parser.parse_args().quick
    rounds = 1 if quick else 20
    with _system() as system:
        without = kills(system, rounds, attempts=1)
        with_retry = kills(system, rounds, attempts=2)
        updated = updates(system, 1 if quick else 5)
        killed_doors = doors(system, rounds)
        scaled = scaling(system)
        rude, grown = rude_clients(system, 4000 if quick else 400_000, 300)
    in_flight = rounds * NUM_CLIENTS
    report(
        "serving_faults",
        [
            _failures("kills_no_retry", without, f"<= {in_flight}, those in flight", in_flight),
            _failures("kills_one_retry", with_retry, "0", 0),
            _failures("updates_no_retry", updated, "0", 0),
            _failures("scale_no_retry", scaled, "0", 0),
            _failures("door_kills_no_retry", killed_doors, "0", 0),
            _failures("rude_clients_no_retry", rude, "0", 0),
            Figure(
                name="rude_clients_growth_mib",
                unit="MiB",
                ours=grown,
                references={},
                goal="< 20",
                met=grown < 20,
            ),
        ],
    )


def _failures(name: str, load: Load, goal: str, allowed: int) -> Figure:
    return Figure(
        name=f"{name}_failed",
        unit="requests",
        ours=load.failed,
        references={"asked": load.asked},
        goal=goal,
        met=load.failed <= allowed,
    )


if __name__ == "__main__":
    main()
