"""What only the embedded backend has: files, boots, forks and stopped processes."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from raymlops.coordination.embedded import EmbeddedBackend
from raymlops.coordination.embedded.numbers import Numbers
from raymlops.errors import CoordinationError
from tests.coordination.places import Place
from tests.coordination.processes import Other, hold


def draw(path: Path) -> int:
    with Numbers(path).next() as number:
        return number


def test_numbers_rise_one_by_one(tmp_path: Path) -> None:
    assert [draw(tmp_path / "new" / "numbers") for _ in range(3)] == [1, 2, 3]


@pytest.mark.parametrize("drawn", [1, 5, 1024, 1025, 2048])
def test_numbers_rise_after_the_machine_has_crashed(tmp_path: Path, drawn: int) -> None:
    """What was never synced is gone: the disk may hold any record since the last sync."""
    path = tmp_path / "numbers"
    synced = b""
    for number in range(1, drawn + 1):
        assert draw(path) == number
        if number % 1024 == 1:
            synced = path.read_bytes()
    boot = synced.split()[2]
    path.write_bytes(synced.replace(boot, b"0" * len(boot)))
    after = draw(path)
    assert drawn < after <= drawn + 1024
    assert draw(path) == after + 1


def test_a_number_is_synced_before_it_can_be_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[bytes] = []
    path = tmp_path / "numbers"
    real = os.fsync

    def fsync(file: int) -> None:
        real(file)
        if os.path.sameopenfile(file, watched):
            synced.append(path.read_bytes())

    path.touch()
    watched = os.open(path, os.O_RDONLY)
    monkeypatch.setattr(os, "fsync", fsync)
    for _ in range(1025):
        draw(path)
    os.close(watched)
    assert [int(record.split()[1]) for record in synced] == [1024, 2048]


def test_a_stopped_holder_keeps_its_lock_and_a_killed_one_gives_it_up(
    tmp_path: Path, start: Callable[..., Other]
) -> None:
    place = Place(tmp_path)
    coordinator = place.connect()
    tokens = []
    for _ in range(5):
        holder = start(hold, place, "job")
        assert holder.hear() == "waiting"
        tokens.append(holder.hear())
        os.kill(holder.pid, signal.SIGSTOP)
        with (
            pytest.raises(CoordinationError, match=f"process {holder.pid}"),
            coordinator.hold("job", timeout_s=0.1),
        ):
            pytest.fail("a stopped holder lost its lock")
        os.kill(holder.pid, signal.SIGKILL)
        with coordinator.hold("job", timeout_s=60) as lease:
            tokens.append(lease.token)
    assert sorted(set(tokens)) == tokens


def test_a_forked_child_neither_holds_nor_releases_its_parents_lock(tmp_path: Path) -> None:
    """A lock of the kernel belongs to the open file, which a forked child shares: it used to be
    held until the last such child had ended."""
    coordinator = Place(tmp_path).connect()
    told, tell = os.pipe()
    with coordinator.hold("job"):
        child = os.fork()
        if child == 0:
            os.close(tell)
            os.read(told, 1)  # lives until the parent is done
            os._exit(0)
        with pytest.raises(CoordinationError), coordinator.hold("job", timeout_s=0):
            pytest.fail("two hold the lock")
    with coordinator.hold("job", timeout_s=0) as lease:
        grandchild = os.fork()
        if grandchild == 0:
            try:
                lease.check()
            except CoordinationError:
                os._exit(7)
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(grandchild, 0)[1]) == 7
    os.close(tell)
    os.waitpid(child, 0)
    os.close(told)


def test_a_child_that_leaves_the_block_gives_up_nothing(tmp_path: Path) -> None:
    place = Place(tmp_path)
    coordinator = place.connect()
    with coordinator.hold("job"):
        parent = os.getpid()
        try:
            child = os.fork()
            if child == 0:
                with coordinator.hold("other"):
                    raise SystemExit
        except SystemExit:
            pass
        if os.getpid() != parent:
            os._exit(0)
        os.waitpid(child, 0)
        assert len(place.queue("locks/job")) == 1
        with pytest.raises(CoordinationError), coordinator.hold("job", timeout_s=0):
            pytest.fail("two hold the lock")


def test_dead_waiters_are_swept_by_the_next_who_comes(
    tmp_path: Path, start: Callable[..., Other]
) -> None:
    place = Place(tmp_path)
    for _ in range(3):
        holder = start(hold, place, "job")
        holder.hear()
        holder.hear()
        holder.end()
    with place.connect().hold("job", timeout_s=0):
        assert len(place.queue("locks/job")) == 1
    assert place.queue("locks/job") == []


def test_no_watch_left_is_an_error_with_the_setting_to_raise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from raymlops.coordination.embedded import inotify

    values = Place(tmp_path).connect().key_value("values")
    monkeypatch.setattr(inotify._libc, "inotify_init1", lambda flags: -1)
    with pytest.raises(CoordinationError, match=r"fs\.inotify\.max_user_instances"):
        values.watch("a").__enter__()


def test_a_disk_that_refuses_is_named(tmp_path: Path) -> None:
    # A full one ended `watch` and whoever else took a lock in a traceback.
    (tmp_path / "home").touch()
    backend = EmbeddedBackend(tmp_path / "home")
    refused = (
        r"are kept in \S*/home/\S*, which cannot be written: .*; see that its disk is not full"
    )
    with (
        pytest.raises(CoordinationError, match=refused),
        backend.lock("a", name="a", owner="me").hold(),
    ):
        pass
    keys = backend.key_value("keys")
    for write in (
        lambda: keys.set("a", b"1"),
        lambda: keys.compare_and_set("a", b"1", version=0),
        lambda: keys.delete("a"),
    ):
        with pytest.raises(CoordinationError, match=refused):
            write()
