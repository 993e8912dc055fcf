"""The contract of every coordinator; so far there is the embedded one."""

from __future__ import annotations

import multiprocessing
import signal
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from raymlops.coordination import Coordinator, EmbeddedCoordinator
from raymlops.errors import CoordinationError


@pytest.fixture
def coordinator(tmp_path: Path) -> Coordinator:
    return EmbeddedCoordinator(tmp_path / "locks")


def hold_for_ever(folder: Path, pipe: Connection) -> None:
    with EmbeddedCoordinator(folder).hold("job", timeout_s=0) as lease:
        pipe.send(lease.token)
        signal.pause()


def add_one(folder: Path, counter: Path, rounds: int) -> None:
    coordinator = EmbeddedCoordinator(folder)
    for _ in range(rounds):
        with coordinator.hold("job", timeout_s=30):
            counter.write_text(str(int(counter.read_text()) + 1))


def test_tokens_rise(coordinator: Coordinator) -> None:
    tokens = []
    for _ in range(3):
        with coordinator.hold("job", timeout_s=0) as lease:
            tokens.append(lease.token)
    assert tokens == [1, 2, 3]


def test_a_held_lock_is_refused_with_its_holder(coordinator: Coordinator) -> None:
    with (
        coordinator.hold("job", timeout_s=0),
        pytest.raises(CoordinationError, match="'job' is held by process"),
        coordinator.hold("job", timeout_s=0.1),
    ):
        pass
    with coordinator.hold("other", timeout_s=0), coordinator.hold("job", timeout_s=0):
        pass


def test_a_lock_is_released_when_the_block_raises(coordinator: Coordinator) -> None:
    with pytest.raises(ZeroDivisionError), coordinator.hold("job", timeout_s=0):
        _ = 1 / 0
    with coordinator.hold("job", timeout_s=0) as lease:
        assert lease.token == 2


def test_a_killed_holder_leaves_the_lock_free(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    mine, theirs = context.Pipe()
    process = context.Process(target=hold_for_ever, args=(tmp_path, theirs))
    process.start()
    assert mine.recv() == 1
    coordinator = EmbeddedCoordinator(tmp_path)
    with (
        pytest.raises(CoordinationError, match=f"held by process {process.pid}"),
        coordinator.hold("job", timeout_s=0),
    ):
        pass
    process.kill()
    process.join()
    with coordinator.hold("job", timeout_s=5) as lease:
        assert lease.token == 2


def test_one_holder_at_a_time(tmp_path: Path) -> None:
    counter = tmp_path / "counter"
    counter.write_text("0")
    context = multiprocessing.get_context("spawn")
    arguments = (tmp_path / "locks", counter, 25)
    processes = [context.Process(target=add_one, args=arguments) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert counter.read_text() == "75"


def test_a_name_cannot_leave_the_folder(tmp_path: Path) -> None:
    with EmbeddedCoordinator(tmp_path / "locks").hold("../../etc/x", timeout_s=0):
        assert [path.name for path in (tmp_path / "locks").iterdir()] == [".._.._etc_x.lock"]
