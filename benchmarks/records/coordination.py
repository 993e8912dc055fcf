"""Locks: how often a second they change hands, whom a release wakes, how soon the next has it."""

from __future__ import annotations

import contextlib
import multiprocessing
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from multiprocessing import connection
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from kazoo.client import KazooClient

from benchmarks.figures import Figure, paired_medians
from raymlops.coordination import CoordinationSettings, connect_coordinator
from tests.servers.zookeeper import ZooKeeper, zookeeper

NUM_CONTENDERS = 8
NUM_WAITERS = 8
CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["benchmarks.records.coordination"])

Hold = Callable[[], contextlib.AbstractContextManager[Any]]


def figures(quick: bool) -> list[Figure]:
    rounds, repeats = (25, 3) if quick else (100, 7)
    with tempfile.TemporaryDirectory() as name, zookeeper(force_sync=True) as ensemble:
        folder = Path(name)
        url = f"zookeeper://{ensemble.hosts}/raymlops"
        ours = CoordinationSettings(url=url)
        embedded = CoordinationSettings()
        with (
            contenders(_ours, ours, folder, rounds) as on_zookeeper,
            contenders(_kazoo, ensemble.hosts, rounds) as by_kazoo,
            contenders(_ours, embedded, folder, rounds) as on_files,
        ):
            mine, theirs = paired_medians(on_zookeeper, by_kazoo, repeats=repeats)
            files, _ = paired_medians(on_files, on_files, repeats=repeats)
        holds = NUM_CONTENDERS * rounds
        return [
            Figure(
                name="lock_8_contenders_zookeeper_per_s",
                unit="holds/s",
                ours=holds / mine,
                references={"kazoo Lock": holds / theirs},
                goal=">= kazoo Lock",
                met=mine <= theirs,
            ),
            Figure(
                name="lock_8_contenders_embedded_per_s",
                unit="holds/s",
                ours=holds / files,
                references={},
            ),
            _wakeups(ours, folder, ensemble.servers[0]),
            _handover("zookeeper", ours, folder, 10 * repeats),
            _handover("embedded", embedded, folder, 10 * repeats),
            _leader_kill(folder),
        ]


@contextlib.contextmanager
def contenders(work: Callable[..., None], *arguments: Any) -> Iterator[Callable[[], None]]:
    """Processes that have connected; calling what is yielded has all of them do their holds."""
    pipes = [_start(work, *arguments) for _ in range(NUM_CONTENDERS)]

    def contend() -> None:
        for pipe in pipes:
            pipe.send("go")
        for pipe in pipes:
            assert pipe.recv() == "done"

    try:
        contend()  # a round to warm up, after which all are connected
        yield contend
    finally:
        for pipe in pipes:
            pipe.send("end")


def _ours(pipe: Connection, settings: CoordinationSettings, folder: Path, rounds: int) -> None:
    with connect_coordinator(settings, folder) as coordinator:
        lock = coordinator.lock("contended")
        _contend(pipe, lock.hold, rounds)


def _kazoo(pipe: Connection, hosts: str, rounds: int) -> None:
    client = KazooClient(hosts)
    client.start()
    lock = client.Lock("/kazoo/contended", "contender")
    _contend(pipe, lambda: lock, rounds)
    client.stop()
    client.close()


def _contend(pipe: Connection, hold: Hold, rounds: int) -> None:
    while pipe.recv() == "go":
        for _ in range(rounds):
            with hold():
                pass
        pipe.send("done")


def _wakeups(settings: CoordinationSettings, folder: Path, server: ZooKeeper) -> Figure:
    """Watches the server fired for the release, counted by the server."""

    def fired() -> float:
        return server.figure("zk_sum_node_changed_watch_count")

    with connect_coordinator(settings, folder) as coordinator:
        with coordinator.hold("woken"):
            waiters = [_start(_wait, settings, folder) for _ in range(NUM_WAITERS)]
            while server.figure("zk_watch_count") < NUM_WAITERS:
                time.sleep(0.01)
            before = fired()
        connection.wait(waiters)  # one of them has it now
        woken = fired() - before
        while waiters:
            (holder,) = connection.wait(waiters)
            waiters.remove(holder)  # type: ignore[arg-type]
            holder.recv()  # type: ignore[union-attr]
            holder.send("end")  # type: ignore[union-attr]
    return Figure(
        name="wakeups_for_one_release_of_8_waiters",
        unit="waiters",
        ours=woken,
        references={},
        goal="= 1",
        met=woken == 1,
    )


def _wait(pipe: Connection, settings: CoordinationSettings, folder: Path) -> None:
    with connect_coordinator(settings, folder) as coordinator, coordinator.hold("woken"):
        pipe.send("held")
        pipe.recv()


def _handover(name: str, settings: CoordinationSettings, folder: Path, rounds: int) -> Figure:
    """From the end of the holder's block until the waiting process is inside its own."""
    pipe = _start(_take_over, settings, folder)
    delays_ms = []
    with connect_coordinator(settings, folder) as coordinator:
        lock = coordinator.lock("handed-over")
        for _ in range(rounds):
            with lock.hold():
                pipe.send("wait")
                time.sleep(0.02)  # by now it waits
                left_at = time.monotonic()
            delays_ms.append(1000 * (pipe.recv() - left_at))
    pipe.send("end")
    return Figure(
        name=f"handover_{name}_ms", unit="ms", ours=statistics.median(delays_ms), references={}
    )


def _take_over(pipe: Connection, settings: CoordinationSettings, folder: Path) -> None:
    with connect_coordinator(settings, folder) as coordinator:
        lock = coordinator.lock("handed-over")
        while pipe.recv() == "wait":
            with lock.hold():
                at = time.monotonic()
            pipe.send(at)


def _leader_kill(folder: Path) -> Figure:
    """From kill -9 of an ensemble's leader until somebody holds the lock anew."""
    with zookeeper(num_servers=3, force_sync=True) as ensemble:
        settings = CoordinationSettings(url=f"zookeeper://{ensemble.hosts}/raymlops")
        workers = [_start(_work_in_turns, settings, folder) for _ in range(4)]
        for worker in workers:
            worker.recv()
        ensemble.leader.process.kill()
        killed_at = time.monotonic()
        # The latest holds under the old leader end within moments; whoever is next needs the new.
        taken = []
        for worker in workers:
            while (at := worker.recv()) < killed_at + 0.05:
                pass
            taken.append(at)
        for worker in workers:
            worker.send("end")
    return Figure(
        name="leader_kill_to_next_hold_s", unit="s", ours=min(taken) - killed_at, references={}
    )


def _work_in_turns(pipe: Connection, settings: CoordinationSettings, folder: Path) -> None:
    with connect_coordinator(settings, folder) as coordinator:
        while not pipe.poll():
            with coordinator.hold("in-turns"):
                at = time.monotonic()
            pipe.send(at)


def _start(work: Callable[..., None], *arguments: Any) -> Connection:
    """A process that runs `work(pipe, *arguments)`, and our end of the pipe."""
    pipe, theirs = CONTEXT.Pipe()
    CONTEXT.Process(target=work, args=(theirs, *arguments), daemon=True).start()
    return pipe
