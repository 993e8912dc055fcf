"""The book where the disk has no room for it."""

from __future__ import annotations

import errno
import os
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from raymlops.monitor.alerts import AlertBook, DeliveryError, Sentinel, Signal, book
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
from typing import Any
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


class _Counted:
    """What parses books, and how often it did."""

    def __init__(self, wrapped: Any) -> None:
        self.wrapped = wrapped
        self.num = 0

    def validate_json(self, text: str) -> Any:
        self.num += 1
        return self.wrapped.validate_json(text)


def test_a_book_that_nobody_has_written_is_not_parsed_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the letters of a sink that was away for long each look parsed all, three times over."""
    world.seen = [LOW]
    world.sink.error = DeliveryError("away")
    world.look()
    kept, counted = AlertBook(world.home), _Counted(book._BOOK)
    monkeypatch.setattr(book, "_BOOK", counted)
    monkeypatch.setattr(book, "_json", lambda _: pytest.fail("there is nothing to write"))
    sentinel = Sentinel(world.ledger, kept, world.settings, [world.sink])
    for second in range(5):
        sentinel.look(NOW + timedelta(seconds=second))
    assert counted.num == 1
    assert [letter.attempts for letter in kept.read().letters] == [1]


def test_what_a_caller_does_to_what_it_has_read_stays_with_it(world: World) -> None:
    world.seen = [LOW]
    world.look()
    kept = AlertBook(world.home)
    mine = kept.read()
    mine.cursor, mine.episodes = 99, ()
    assert kept.read().cursor != 99
    assert [each.name for each in kept.read().episodes] == ["disk"]
    with suppress(KeyError), kept.open() as opened:
        opened.episodes = ()
        raise KeyError
    assert [each.name for each in kept.read().episodes] == ["disk"]
