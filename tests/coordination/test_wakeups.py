"""Waiting costs nothing, and a release wakes one waiter of eight."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from tests.coordination.places import Place
from tests.coordination.processes import Other, hold, until
from tests.servers.zookeeper import Ensemble

NUM_WAITERS = 8


def wakeups(other: Other) -> int:
    """How often the kernel has woken the process from sleep, all its threads together."""
    total = 0
    for status in Path(f"/proc/{other.pid}/task").glob("*/status"):
        lines = dict(line.split(":\t", 1) for line in status.read_text().splitlines())
        total += int(lines["voluntary_ctxt_switches"])
    return total


def queue_up(place: Place, start: Callable[..., Other]) -> list[Other]:
    """The holder and eight waiters, in order."""
    others = []
    for position in range(1, NUM_WAITERS + 2):
        others.append(start(hold, place, "job"))
        assert others[-1].hear() == "waiting"
        until(lambda: len(place.queue("locks/job")) == position)  # noqa: B023
    others[0].hear()
    return others


def test_the_kernel_wakes_no_embedded_waiter_but_the_next(
    tmp_path: Path, start: Callable[..., Other]
) -> None:
    others = queue_up(Place(tmp_path), start)
    waiters = others[1:]
    until(lambda: all(is_asleep(waiter) for waiter in waiters))
    before = [wakeups(waiter) for waiter in waiters]
    time.sleep(0.5)  # a time in which anything that polls would show
    assert [wakeups(waiter) for waiter in waiters] == before
    others[0].tell()
    waiters[0].hear()
    until(lambda: wakeups(waiters[0]) > before[0])  # counted when it goes back to sleep
    assert [wakeups(waiter) for waiter in waiters[1:]] == before[1:]


def is_asleep(other: Other) -> bool:
    return "State:\tS" in Path(f"/proc/{other.pid}/status").read_text()


def test_zookeeper_tells_no_waiter_but_the_next(
    one_server: Ensemble, zookeeper_place: Place, start: Callable[..., Other]
) -> None:
    server = one_server.servers[0]

    def events() -> float:
        return server.figure("zk_sum_node_changed_watch_count")

    others = queue_up(zookeeper_place, start)
    until(lambda: server.figure("zk_watch_count") == NUM_WAITERS)
    before = events()
    for number in range(3):
        others[number].tell()
        assert others[number].hear() == "released"
        others[number + 1].hear()
        assert events() == before + number + 1
        assert server.figure("zk_watch_count") == NUM_WAITERS - number - 1
