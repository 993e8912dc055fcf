"""Printing: lines for people, JSON for programs; errors and logs with every secret hidden."""

from __future__ import annotations

import getpass
import io
import logging
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import orjson
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from raymlops.config import redact, writable

_PIPE_WIDTH = 10_000


def emit_json(value: Any) -> None:
    """Prints dataclasses, times, numbers and texts as one JSON document."""
    with _to_stdout():
        print(_json(value, orjson.OPT_INDENT_2).decode(), flush=True)


def emit_json_line(value: Any) -> None:
    """Prints one JSON document on a line of its own, at once: for what goes on for ever."""
    with _to_stdout():
        print(to_json(value), flush=True)


def to_json(value: Any) -> str:
    """The document on one line."""
    return _json(value).decode()


def emit_error(error: Exception, *, json: bool, trace: str = "") -> None:
    """Prints to stderr what went wrong, last a line of its own with --json."""
    if trace:
        print(redact(trace), file=sys.stderr, end="")
    message = redact(str(error))
    if json:
        document = {"error": writable(message), "type": type(error).__name__}
        print(to_json(document), file=sys.stderr)
    elif not trace:
        print(f"raymlops: {message}", file=sys.stderr)


def log_to_stderr() -> None:
    """Has warnings and errors of every library go to stderr, without secrets."""
    handler = logging.StreamHandler()
    handler.setFormatter(_RedactingFormatter("%(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
    # Ray Serve and Ray Data have handlers and levels of their own, set when they are imported. One
    # tells at INFO of an address that is not the door's, the other of every plan it carries out.
    logging.getLogger("ray.serve").addFilter(_warns)
    logging.getLogger("ray.data._internal.execution").setLevel(logging.WARNING)
    # Of bars that are off because we say so it warns.
    logging.getLogger("ray.data._internal.progress").setLevel(logging.ERROR)


def emit_lines(lines: Iterable[tuple[str, str]]) -> None:
    """Prints labelled lines, the labels right-aligned."""
    lines = list(lines)
    width = max((len(label) for label, _ in lines), default=0)
    console = Console(soft_wrap=True, highlight=False)
    with _to_stdout():
        for label, text in lines:
            console.print(f"[dim]{escape(label):>{width}}[/]  {escape(text)}")


def emit_table(
    columns: Sequence[str], rows: Iterable[Sequence[object]], *, if_none: str = ""
) -> None:
    """Prints rows under headings, or else `if_none`; nothing is cut off, whatever the width of the
    screen."""
    rows = list(rows)
    if not rows and if_none:
        emit_lines((("none", if_none),))
        return
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = _PIPE_WIDTH
    table = Table(box=None, header_style="dim")
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(escape(str(cell)) for cell in row))
    with _to_stdout():
        console.print(table)


def write_any_text() -> None:
    """Has stdout show what its encoding has no letters for as escapes, as stderr does."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def person() -> str:
    """Who is at the keyboard, for the ledger; of a user without a name, as in a container, the
    number."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # the former until Python 3.12
        return f"uid {os.getuid()}"


@contextmanager
def _to_stdout() -> Iterator[None]:
    """Names stdout where it takes no more; a pipe that nobody reads is no error to tell."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise OSError(error.errno, error.strerror, "standard output") from error


def _warns(record: logging.LogRecord) -> bool:
    return record.levelno >= logging.WARNING


class _RedactingFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return redact(super().format(record))


def _json(value: Any, layout: int = 0) -> bytes:
    options = layout | orjson.OPT_NON_STR_KEYS | orjson.OPT_SERIALIZE_NUMPY
    return orjson.dumps(value, default=_plain, option=options)


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, tuple | frozenset | set):
        return list(value)
    return str(value)
