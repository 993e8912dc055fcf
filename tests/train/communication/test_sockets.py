"""Options of connections: set on those between workers, and on no others."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from raymlops.errors import TrainingError
from raymlops.train import ParallelPlan, SocketSpec
from raymlops.train.communication import sockets as tuning
from raymlops.train.communication.sockets import Tuned, between_workers, tune
from raymlops.train.plan.seat import Seat
from tests.train import gloo

BOTH = SocketSpec(nodelay=False, send_buffer_bytes=65_536, receive_buffer_bytes=32_768)


def test_connections_between_workers_are_those_that_end_at_one() -> None:
    mine = {
        3: (("10.0.0.1", 50_000), ("10.0.0.2", 40_000)),
        4: (("10.0.0.1", 50_001), ("10.0.0.9", 6_379)),  # Ray's
        7: (("10.0.0.1", 41_000), ("10.0.0.2", 50_002)),
    }
    theirs = [("10.0.0.2", 40_000), ("10.0.0.2", 50_002), ("10.0.0.2", 50_003)]
    assert between_workers(mine, theirs) == [3, 7]
    assert between_workers(mine, []) == []


def tuned(seat: Seat, spec: SocketSpec) -> tuple[Tuned | None, set[tuple[bool, int]], int]:
    """What came of it, what the workers' connections then have, and another's buffer before and
    after; gradients are summed over the tuned connections."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        other = socket.create_connection(server.getsockname())
        before = other.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF)
        found = tune(spec, seat)
        moved = other.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) - before
        other.close()
    has = set()
    for number in tuning._connections():
        with tuning._opened(number) as opened:
            has.add(
                (
                    bool(opened.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)),
                    opened.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF),
                )
            )
    assert seat.total([float(seat.rank)]) == [1.0]
    return found, has, moved


def test_what_is_set_is_what_gloos_sockets_have() -> None:
    for found, has, moved in gloo.run(ParallelPlan(data=2), tuned, BOTH):
        assert found is not None
        assert found.num_connections >= 3  # of the group of all, the replicas, the saving
        assert found.send_buffer_bytes == 2 * 65_536  # Linux counts its own books too
        assert found.receive_buffer_bytes == 2 * 32_768
        assert has == {(False, 2 * 65_536)}
        assert moved == 0


def test_nothing_set_changes_nothing() -> None:
    for found, has, _ in gloo.run(ParallelPlan(data=2), tuned, SocketSpec()):
        assert found is None
        assert {nodelay for nodelay, _ in has} == {True}  # as gloo has it
    assert tune(BOTH, Seat()) is None  # alone


def told(seat: Seat, spec: SocketSpec) -> list[str]:
    import logging

    records: list[logging.LogRecord] = []
    logger = logging.getLogger("raymlops.train.communication.sockets")
    logger.addFilter(lambda record: not records.append(record))
    tune(spec, seat)
    return [record.getMessage() for record in records]


def test_less_than_was_asked_for_is_told_with_both_sizes() -> None:
    most = int(Path("/proc/sys/net/core/wmem_max").read_text())
    spec = SocketSpec(send_buffer_bytes=2 * most)
    expected = (
        f"communication.sockets.send_buffer_bytes is {2 * most}, the kernel grants {most}: raise "
        "net.core.wmem_max"
    )
    assert gloo.run(ParallelPlan(data=2), told, spec) == [[expected], [expected]]


def test_a_system_that_lists_no_sockets_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tuning, "_FOLDER", Path("/nowhere"))
    waiting = Seat(plan=ParallelPlan(data=2), saving=object())  # type: ignore[arg-type]
    with pytest.raises(TrainingError, match="this system has no /nowhere that tells of them"):
        tune(BOTH, waiting)
