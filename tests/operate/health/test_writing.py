"""A ledger or a disk that takes nothing more, though all can be read."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from raymlops.ledger.holders import Holder
from raymlops.operate import Workspace, status
from raymlops.operate.health import problems
from raymlops.operate.low_disk import Room


def test_a_ledger_that_nobody_can_write_is_a_problem(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Reads go on, so everything looked well while no label and no decision was taken.
    writer = Holder(pid=17, name="ray::Monitor", is_stopped=True)
    monkeypatch.setattr(problems, "writer_of", lambda _: writer)
    (problem,) = status(workspace).problems
    assert problem.startswith("nothing can be written to the ledger: that is kept by process 17")
    monkeypatch.setattr(problems, "writer_of", lambda _: replace(writer, is_stopped=False))
    assert status(workspace).problems == ()


def test_a_full_disk_is_a_problem(
    workspace: Workspace, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # All that can be read was read, and well.
    full = Room(total=10 << 30, free=0, full=True)
    monkeypatch.setattr(problems, "room_of", {home: full}.get)
    found = status(workspace)
    assert found.problems == (f"nothing can be written: the disk of {home} is full",)
    assert found.health == "attention"


def test_a_disk_that_has_become_read_only_is_a_problem(
    workspace: Workspace, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read_only = Room(total=10 << 30, free=1 << 30, full=False, refusal="Read-only file system")
    monkeypatch.setattr(problems, "room_of", {home: read_only}.get)
    assert status(workspace).problems == (
        f"the disk of {home} takes no new file, though 1,024 MiB are free: Read-only file system; "
        "see `mount` and `df -i`",
    )
