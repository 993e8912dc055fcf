"""An operator reads each decision once, and all of them anew where the ledger is another."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime
from pathlib import Path

import pytest

from raymlops.ledger import Ledger
from raymlops.operate.journal import Journal

NOW = datetime(2026, 11, 30, tzinfo=UTC)


def test_each_look_reads_what_is_new(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three times a look an operator read, and decoded, all that was ever decided of its model."""
    with Ledger(f"sqlite:///{tmp_path / 'ledger.db'}") as ledger:
        journal, read = Journal(ledger, "flights"), []
        listed = ledger.decisions.list

        def counted(**about: object) -> object:
            found = listed(**about)  # type: ignore[arg-type]
            read.append(len(found))
            return found

        monkeypatch.setattr(ledger.decisions, "list", counted)
        assert journal.all() == []
        for number in range(5):
            journal.add("trigger" if number else "gate", str(number), "y", {}, NOW)
            ledger.decisions.add(
                model="rain", kind="gate", outcome="other", who="w", why="y", evidence={}
            )
        assert [each.outcome for each in journal.all()] == ["0", "1", "2", "3", "4"]
        journal.add("gate", "5", "y", {}, NOW)
        assert [each.outcome for each in journal.all("gate")] == ["0", "5"]
        assert [each.outcome for each in journal.own()] == ["0", "1", "2", "3", "4", "5"]
        assert read == [0, 5, 2, 1]


def test_a_ledger_that_was_put_back_is_read_anew(tmp_path: Path) -> None:
    path, backup = tmp_path / "ledger.db", tmp_path / "backup.db"
    with Ledger(f"sqlite:///{path}") as ledger:
        Journal(ledger, "flights").add("gate", "before", "y", {}, NOW)
    shutil.copy(path, backup)
    with Ledger(f"sqlite:///{path}") as ledger:
        journal = Journal(ledger, "flights")
        journal.add("gate", "lost", "y", {}, NOW)
        assert [each.outcome for each in journal.all()] == ["before", "lost"]
        for suffix in ("-wal", "-shm"):
            path.with_name(path.name + suffix).unlink(missing_ok=True)
        backup.rename(path)
        assert [each.outcome for each in journal.all()] == ["before"]
        journal.add("gate", "after", "y", {}, NOW)
        assert [each.outcome for each in journal.all()] == ["before", "after"]
