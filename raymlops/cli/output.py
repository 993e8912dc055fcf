"""Printing: lines for people, JSON for programs."""

from __future__ import annotations

import getpass
from collections.abc import Iterable, Sequence
from typing import Any

import orjson
from rich.console import Console
from rich.markup import escape
from rich.table import Table

_PIPE_WIDTH = 10_000


def emit_json(value: Any) -> None:
    """Prints dataclasses, times, numbers and texts as one JSON document."""
    options = orjson.OPT_INDENT_2 | orjson.OPT_NON_STR_KEYS | orjson.OPT_SERIALIZE_NUMPY
    print(orjson.dumps(value, default=_plain, option=options).decode())


def emit_lines(lines: Iterable[tuple[str, str]]) -> None:
    """Prints labelled lines, the labels right-aligned."""
    lines = list(lines)
    width = max((len(label) for label, _ in lines), default=0)
    console = Console(soft_wrap=True, highlight=False)
    for label, text in lines:
        console.print(f"[dim]{escape(label):>{width}}[/]  {escape(text)}")


def emit_table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Prints rows under headings; nothing is cut off, whatever the width of the screen."""
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = _PIPE_WIDTH
    table = Table(box=None, header_style="dim")
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(escape(str(cell)) for cell in row))
    console.print(table)


def person() -> str:
    """Who is at the keyboard, for the ledger."""
    return getpass.getuser()


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, tuple | frozenset | set):
        return list(value)
    return str(value)
