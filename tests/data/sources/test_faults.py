"""What is wrong with a CSV file is said by its line, and how to mend it."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from raymlops.data import as_table, open_source
from raymlops.errors import DataError

MANY = f"1,{100 * 'x'}\n" * 350_000
"""More than Arrow reads at once."""


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('a,b\n1,x\n2,"y\n3,z\n', "line 3: the quote before 'y' is not closed"),
        ('a,b,c\n1,x,3\n2,"y,1\n3,z,4\n', "line 3: the quote before 'y,1' is not closed"),
        ('a,b\r\n1,"x\r\n2,"y"\r\n', "line 2: the quote before 'x' is not closed"),
        (f'a,b\n{MANY}1,"two\n{MANY}', "line 350002: the quote before 'two' is not closed"),
        (f"a,b\n{MANY}1\n", "line 350002 has 1 value, the header names 2 columns: '1'"),
        ('a,b\n1,"x\ny"\n1,2,3\n', "line 4 has 3 values, the header names 2 columns: '1,2,3'"),
        (f"a,b\n{MANY}1,Zürich\n".encode("latin-1"), r"line 350002 is not UTF-8 at '1,Z\xfcrich'"),
        ("a,b\n1,Zürich\n".encode("utf-16"), "is UTF-16, not UTF-8; convert it, e.g. iconv"),
        ("a,b\n1,Zürich\n".encode("utf-16-le"), "has zero bytes in its header, as UTF-16 has"),
        (gzip.compress(b"a,b\n1,2\n", mtime=0), "is compressed by gzip; unpack it first"),
        ("a;b\n1;2\n", "parts its columns by ';', not by commas; convert it, e.g. pandas"),
        ("\n\n", "is empty; its first line names the columns"),
        ("a,b", "has no rows"),
    ],
)
def test_the_fault_of_a_file_is_said_by_its_line(
    content: str | bytes, message: str, tmp_path: Path
) -> None:
    # Rows behind a quote that was left open became a part of its text, in silence where it was in
    # the last column.
    path = tmp_path / "t.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(DataError) as error:
        as_table(open_source(path))
    assert f"{path} {message}" in str(error.value)
    assert "\n" not in str(error.value)


def test_quotes_that_are_closed_are_no_fault(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text('\ufeffa,"b"\n1,"x\ny"\n2,"an ""inch""\n, or 2"\n\n3,5" pipe\n4,"z"\n')
    assert as_table(open_source(path)).to_pydict() == {
        "a": [1, 2, 3, 4],
        "b": ["x\ny", 'an "inch"\n, or 2', '5" pipe', "z"],
    }
