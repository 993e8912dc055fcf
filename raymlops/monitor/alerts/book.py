"""Everything alerts remember, in one file that the watching process and the command line share."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import orjson
from pydantic import TypeAdapter

from raymlops.cluster.files import locked, replace_text
from raymlops.errors import TAKES_NOTHING
from raymlops.monitor.alerts.episodes import Alert, Episode
from raymlops.monitor.alerts.outbox import Letter
from raymlops.monitor.alerts.quiet import Silence

_MAX_TOLD = 500
_MAX_DEAD = 1000
_OPTIONS = orjson.OPT_INDENT_2 | orjson.OPT_NON_STR_KEYS

_logger = logging.getLogger(__name__)


@dataclass(kw_only=True)
class Book:
    """`cursor` is the last decision that was looked at, `told` what was told, the newest last."""

    cursor: int = 0
    episodes: tuple[Episode, ...] = ()
    silences: tuple[Silence, ...] = ()
    letters: tuple[Letter, ...] = ()
    told: tuple[Alert, ...] = ()

    @property
    def dead(self) -> tuple[Letter, ...]:
        return tuple(letter for letter in self.letters if letter.is_dead)


_BOOK = TypeAdapter(Book)


class AlertBook:
    """The book of a home; one process at a time has it open.

    It is parsed once for every time that it was written: sentinels look every few seconds, and most
    of it is what was told long ago and letters that wait.

    With `holds_on`, where the disk takes nothing, what was written is kept in memory and read from
    there, until it does again or another process has written something else: an alert that cannot
    be kept is to be told all the same.
    """

    def __init__(self, home: Path, *, holds_on: bool = False) -> None:
        self._home = home
        self._holds_on = holds_on
        self._unwritten: _Unwritten | None = None
        self._parsed: _Parsed | None = None

    @property
    def path(self) -> Path:
        return self._home / "alerts" / "book.json"

    @property
    def is_new(self) -> bool:
        """Whether nobody has written in it yet."""
        return self._text() is None

    def read(self) -> Book:
        """As it was written last."""
        text = self._text()
        return Book() if text is None else self._book_of(text)

    @contextlib.contextmanager
    def open(self) -> Iterator[Book]:
        """The book, to be changed; if it was, it is written back at the end of the block.

        Raises:
            OSError: it cannot be, and is as it was.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with locked(self.path.with_suffix(".lock")):
            text = self._text()
            book = Book() if text is None else self._book_of(text)
            found = replace(book)
            yield book
            _trim(book)
            if book == found and text is not None and self._unwritten is None:
                return
            if (after := _json(book)) != (before := self._written()):
                self._write(after, before)
            else:
                self._unwritten = None

    def _write(self, text: str, before: str | None) -> None:
        try:
            replace_text(self.path, text)
        except OSError as error:
            if not self._holds_on or error.errno not in TAKES_NOTHING:
                raise
            if self._unwritten is None:
                _logger.error("%s is kept in memory until the disk takes it: %s", self.path, error)
            self._unwritten = _Unwritten(text, before)
        else:
            self._unwritten = None

    def _book_of(self, text: str) -> Book:
        """A book of the caller's own; the entries, which never change, are shared."""
        parsed = self._parsed
        if parsed is None or parsed.text != text:
            parsed = self._parsed = _Parsed(text, _BOOK.validate_json(text))
        return replace(parsed.book)

    def _text(self) -> str | None:
        written, unwritten = self._written(), self._unwritten
        return unwritten.text if unwritten and unwritten.before == written else written

    def _written(self) -> str | None:
        try:
            return self.path.read_text()
        except FileNotFoundError:
            return None


class _Unwritten(NamedTuple):
    """What is to be in the file, and what was in it."""

    text: str
    before: str | None


class _Parsed(NamedTuple):
    text: str
    book: Book


def _trim(book: Book) -> None:
    """What is forgotten is the oldest of what needs nobody any more."""
    book.told = book.told[-_MAX_TOLD:]
    excess = len(book.dead) - _MAX_DEAD
    if excess > 0:
        oldest = set(map(id, book.dead[:excess]))
        book.letters = tuple(letter for letter in book.letters if id(letter) not in oldest)


def _json(book: Book) -> str:
    return orjson.dumps(book, option=_OPTIONS, default=_plain).decode()


def _plain(value: Any) -> Any:
    return str(value)
