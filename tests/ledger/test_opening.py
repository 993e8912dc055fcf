"""Ledgers that are opened: which are refused, and when one is made."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from raymlops.errors import LedgerError
from raymlops.ledger import Ledger


def test_a_ledger_of_another_schema_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    Ledger(f"sqlite:///{path}").close()
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE meta SET value = '999' WHERE key = 'schema'")
    connection.close()
    with pytest.raises(LedgerError, match="has schema 999, this raymlops reads schema"):
        Ledger(f"sqlite:///{path}")


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("nonsense", "ledger.url 'nonsense' is no database URL, e.g. sqlite:///ledger.db"),
        ("mysql://host/db", "ledger.url names mysql; the ledger is kept by sqlite and postgresql"),
        ("postgresql://me:secret@host:port/db", r"postgresql://.*host.*' is no database URL"),
        ("postgresql://me:secret@[::1/db", "is no database URL"),
        ("sqlite://ledger.db", "'sqlite://ledger.db' is no database URL, e.g. sqlite:///ledger.db"),
        (
            "postgresql+foo://me:secret@host/db",
            r"ledger.url names postgresql\+foo, which SQLAlchemy does not know: write postgresql",
        ),
        ("sqlite:////proc/nope/ledger.db", "ledger /proc/nope/ledger.db has no folder: "),
        (
            "postgresql+psycopg://me:secret@127.0.0.1:1/db",
            r"the ledger at postgresql\+psycopg://me:\*\*\*@127.0.0.1:1/db did not answer",
        ),
    ],
)
def test_an_unusable_url_is_named_without_its_password(url: str, message: str) -> None:
    with pytest.raises(LedgerError, match=message) as refused:
        Ledger(url)
    assert "secret" not in str(refused.value)


def test_a_ledger_opened_lazily_is_made_by_the_first_write(tmp_path: Path) -> None:
    path = tmp_path / "home" / "ledger.db"
    with (
        Ledger(f"sqlite:///{path}", lazily=True) as reader,
        Ledger(f"sqlite:///{path}", lazily=True) as writer,
    ):
        assert (reader.datasets.list(), writer.runs.list()) == ([], [])
        assert not path.parent.exists()
        writer.releases.publish("m", {"arms": []})
        assert reader.releases.published("m") == (1, {"arms": []})
        reader.releases.publish("m", {"arms": [1]})
        assert writer.releases.published("m") == (2, {"arms": [1]})


def test_a_ledger_opened_lazily_can_be_made_for_others(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'ledger.db'}"
    with Ledger(url, lazily=True) as ledger:
        ledger.make()
        Ledger(url, must_exist=True).close()
