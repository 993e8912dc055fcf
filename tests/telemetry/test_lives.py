"""Logs of replicas that have ended are bounded together, and of one that lives none is removed."""

from __future__ import annotations

import os
from pathlib import Path

from raymlops.telemetry.logs import LineWriter


def writer(folder: Path, number: int, family: str | None = "flights") -> LineWriter:
    path = folder / f"flights-{number:012x}.jsonl"
    return LineWriter(path, max_file_bytes=1, num_files=3, max_waiting=9, family=family)


def written(folder: Path, number: int, *, files: int = 1) -> LineWriter:
    """A life that has filled so many files."""
    made = writer(folder, number)
    for each in range(files):
        made.put({"number": each})
        made._write_waiting()
    return made


def begun(folder: Path, number: int, family: str | None = "flights") -> None:
    """A life that began, and ended before it had anything to write."""
    life = writer(folder, number, family)
    life.start()
    life.close()


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_any_number_of_lives_leave_as_much_as_one(tmp_path: Path) -> None:
    """Each deploy, loss and step of the autoscaler left up to five files of 64 MB for good."""
    living = written(tmp_path, 999, files=4)
    for number in range(20):
        written(tmp_path, number, files=2).close()
    assert len(names(tmp_path)) == 44
    begun(tmp_path, 20)
    lived = {f"flights-{999:012x}.jsonl{suffix}" for suffix in ("", ".1", ".2", ".3")}
    kept = {f"flights-{19:012x}.jsonl", f"flights-{19:012x}.jsonl.1", f"flights-{18:012x}.jsonl"}
    assert names(tmp_path) == kept | lived
    living.close()
    begun(tmp_path, 21)
    assert len(names(tmp_path)) == 3


def test_files_of_others_are_left(tmp_path: Path) -> None:
    others = {
        "decisions.jsonl", "decisions.jsonl.1", f"flights-eu-{1:012x}.jsonl", "flights-mine.jsonl",
        f"flights-{2:012x}.jsonl.gz",
    }  # fmt: skip
    for name in others:
        (tmp_path / name).write_text("{}\n")
        os.utime(tmp_path / name, (0, 0))
    for number in range(8):
        written(tmp_path, number).close()
    begun(tmp_path, 8, family=None)
    assert len(names(tmp_path)) == len(others) + 8
    begun(tmp_path, 9)
    assert others < names(tmp_path)
    assert len(names(tmp_path)) == len(others) + 3
