"""Everything alerts remember, in one file that the watching process and the command line share."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
from pydantic import TypeAdapter

from raymlops.cluster.files import locked, replace_text
from raymlops.monitor.alerts.episodes import Alert, Episode
from raymlops.monitor.alerts.outbox import Letter
from raymlops.monitor.alerts.quiet import Silence

_MAX_TOLD = 500
_MAX_DEAD = 1000


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


@dataclass(frozen=True)
class AlertBook:
    """The book of a home; one process at a time has it open."""

    home: Path
    _options: int = field(default=orjson.OPT_INDENT_2, repr=False)

    @property
    def path(self) -> Path:
        return self.home / "alerts" / "book.json"

    @property
    def is_new(self) -> bool:
        """Whether nobody has written in it yet."""
        return not self.path.exists()

    def read(self) -> Book:
        """As it was written last."""
        text = self._text()
        return Book() if text is None else _BOOK.validate_json(text)

    @contextlib.contextmanager
    def open(self) -> Iterator[Book]:
        """The book, to be changed; if it was, it is written back at the end of the block."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with locked(self.path.with_suffix(".lock")):
            before = self._text()
            book = self.read()
            yield book
            _trim(book)
            if (after := _json(book, self._options)) != before:
                replace_text(self.path, after)

    def _text(self) -> str | None:
        try:
            return self.path.read_text()
        except FileNotFoundError:
            return None


def _trim(book: Book) -> None:
    """What is forgotten is the oldest of what needs nobody any more."""
    book.told = book.told[-_MAX_TOLD:]
    excess = len(book.dead) - _MAX_DEAD
    if excess > 0:
        oldest = set(map(id, book.dead[:excess]))
        book.letters = tuple(letter for letter in book.letters if id(letter) not in oldest)


def _json(book: Book, options: int) -> str:
    return orjson.dumps(book, option=options | orjson.OPT_NON_STR_KEYS, default=_plain).decode()


def _plain(value: Any) -> Any:
    return str(value)
