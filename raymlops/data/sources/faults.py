"""What is wrong with a CSV file, said by its line and with the way out."""

from __future__ import annotations

import csv
import mmap
import re
from pathlib import Path
from typing import Any

_NOT_CSV = {
    b"\xff\xfe\x00\x00": "UTF-32, not UTF-8; convert it, e.g. iconv -f utf-32 -t utf-8",
    b"\xff\xfe": "UTF-16, not UTF-8; convert it, e.g. iconv -f utf-16 -t utf-8",
    b"\xfe\xff": "UTF-16, not UTF-8; convert it, e.g. iconv -f utf-16 -t utf-8",
    b"\x1f\x8b": "compressed by gzip; unpack it first, e.g. gunzip",
    b"PK\x03\x04": "a zip archive, as Excel's workbooks are; save its table as CSV",
    b"PAR1": "a Parquet file; call it .parquet",
}
"""What files begin with that are called .csv and are something else."""

# A quote opens a text where a value begins, and nowhere else; a quote in such a text is doubled.
_QUOTED = re.compile(rb'(?:\A|[,\r\n])(")(?:[^"]++|"")*+("?)(?=([^,\r\n])?)')
_LONGEST_SHOWN = 40


def kind_fault(path: Path) -> str | None:
    """Why the file cannot be CSV at all, None where it may be."""
    with path.open("rb") as file:
        head = file.read(4096)
    for start, what in _NOT_CSV.items():
        if head.startswith(start):
            return f"is {what}"
    header = head.lstrip(b"\r\n").split(b"\n")[0]
    if not header:
        return "is empty; its first line names the columns"
    if b"\0" in header:
        return "has zero bytes in its header, as UTF-16 has; convert it, e.g. iconv -f utf-16le"
    if b"," not in header and (found := re.search(rb"[;\t|]", header)):
        mark = found[0].decode()
        return (
            f"parts its columns by {mark!r}, not by commas; convert it, e.g. "
            f"pandas.read_csv(FILE, sep={mark!r}).to_parquet('rows.parquet')"
        )
    return None


def quote_fault(path: Path) -> str | None:
    """Where a quote opens a text of several lines that no quote closes, or one within a value."""
    if not path.stat().st_size:
        return None
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        for found in _QUOTED.finditer(content):
            start, end = found.span(1)[0], found.end()
            if (found[2] and not found[3]) or content.find(b"\n", start, end) < 0:
                continue
            text = _shown(content[start + 1 : start + 200])
            return (
                f"line {_line(content, start)}: the quote before {text} is not closed where the "
                "value ends; close it, and write a quote in a text twice"
            )
    return None


def row_fault(path: Path) -> str | None:
    """Which line is not UTF-8, or has fewer or more values than the header has columns."""
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            try:
                line.decode()
            except UnicodeDecodeError as error:
                return (
                    f"line {number} is not UTF-8 at {_shown(line[max(0, error.start - 10) :])}; "
                    "convert the file, e.g. iconv -f latin1 -t utf-8"
                )
    with path.open(encoding="utf-8", newline="") as text:
        try:
            return _width_fault(csv.reader(text))
        except csv.Error:  # a value beyond its limit: nothing is told of what lies behind it
            return None


def _width_fault(rows: Any) -> str | None:
    num_columns, number = 0, 1
    for row in rows:
        num_columns = num_columns or len(row)
        if row and len(row) != num_columns:
            return (
                f"line {number} has {_values(len(row))}, the header names {num_columns} columns: "
                f"{_shown(','.join(row).encode())}; a text with a comma in it goes between quotes"
            )
        number = rows.line_num + 1
    return "has no rows" if number == 2 else None


def _line(content: mmap.mmap, place: int) -> int:
    return 1 + sum(1 for _ in re.finditer(rb"\n", memoryview(content)[:place]))


def _shown(content: bytes) -> str:
    line = content[: 4 * _LONGEST_SHOWN].split(b"\n")[0].decode(errors="backslashreplace").strip()
    return f"'{line}'" if len(line) <= _LONGEST_SHOWN else f"'{line[:_LONGEST_SHOWN]}...'"


def _values(count: int) -> str:
    return "1 value" if count == 1 else f"{count} values"
