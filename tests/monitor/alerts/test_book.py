"""The book where the disk has no room for it."""

from __future__ import annotations

import errno
import os
from datetime import timedelta
from pathlib import Path

import pytest

from raymlops.monitor.alerts import AlertBook, Sentinel, Signal, book
from tests.disks import output_on_small_disk
from tests.monitor.alerts.world import NOW, World

LOW = Signal(name="disk", model="home", firing=True, summary="no room")


def fill(disk: pytest.MonkeyPatch) -> None:
    def refuse(path: Path, _: str) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    disk.setattr(book, "replace_text", refuse)


def test_an_alert_is_told_once_while_the_disk_is_full(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = AlertBook(world.home, holds_on=True)
    sentinel = Sentinel(world.ledger, kept, world.settings, [world.sink], watch=lambda: world.seen)
    sentinel.look(NOW)
    world.seen = [LOW]
    with monkeypatch.context() as disk:
        fill(disk)
        for minute in (1, 2):
            sentinel.look(NOW + timedelta(minutes=minute))
        assert world.sink.told == [("disk", "firing", "warning")]
        assert world.book.read().told == ()  # which is what others see
    world.seen = [Signal(name="disk", model="home", firing=False)]
    sentinel.look(NOW + timedelta(minutes=3))
    assert world.sink.told == [("disk", "firing", "warning"), ("disk", "resolved", "warning")]
    assert [each.status for each in world.book.read().told] == ["firing", "resolved"]
    assert world.book.read().letters == ()


def test_what_another_process_has_written_meanwhile_stays(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = AlertBook(world.home, holds_on=True)
    with monkeypatch.context() as disk:
        fill(disk)
        with kept.open() as written:
            written.cursor = 7
        assert kept.read().cursor == 7
    with world.book.open() as written:
        written.cursor = 8
    with kept.open() as written:
        assert written.cursor == 8


def test_what_is_taken_back_while_the_disk_is_full_is_forgotten(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept, before = AlertBook(world.home, holds_on=True), world.book.read().cursor
    fill(monkeypatch)
    for cursor in (7, before):
        with kept.open() as written:
            written.cursor = cursor
        assert kept.read().cursor == cursor


def test_whoever_does_not_hold_on_is_told(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a command is, which ends with what it had to write."""
    fill(monkeypatch)
    with pytest.raises(OSError, match="No space left"), world.book.open() as written:
        written.cursor = 7
    assert world.book.read().cursor != 7


_ON_A_DISK_THAT_BECOMES_READ_ONLY = """
import subprocess, sys
from pathlib import Path
from raymlops.monitor.alerts import AlertBook
home = Path(sys.argv[1])
kept = AlertBook(home, holds_on=True)
with kept.open() as book:
    book.cursor = 7
subprocess.run(["mount", "-o", "remount,ro", home], check=True)
with kept.open() as book:
    book.cursor = 8
print(kept.read().cursor, AlertBook(home).read().cursor)
try:
    with AlertBook(home).open() as book:
        book.cursor = 9
except OSError as error:
    print(error)
"""


def test_it_is_kept_while_the_disk_is_read_only(tmp_path: Path) -> None:
    """The sentinel broke off at every look, and told of nothing any more."""
    path = tmp_path / "alerts" / "book.json"
    assert output_on_small_disk(_ON_A_DISK_THAT_BECOMES_READ_ONLY, tmp_path) == [
        "8 7",
        f"[Errno 30] Read-only file system: '{path}'",
    ]
