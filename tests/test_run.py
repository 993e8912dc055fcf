"""`tests/run`, with a stand-in for pytest."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parent / "run"
# Says that it runs, and ends as pytest does where it is interrupted: well, after a while.
STAND_IN = """#!/bin/bash
trap 'kill $!; test -d "$TMPDIR" && echo "interrupted: $*" >>"$LOG"; exit 2' INT
echo "runs: $*" >>"$LOG"
[ -n "$WAITS" ] || exit 0
echo >"$READY"
sleep 600 >/dev/null 2>&1 &
wait
"""


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """What the stand-in said, as `tests/run` runs in this folder."""
    for name in ("tests", ".venv/bin", "temporary"):
        (tmp_path / name).mkdir(parents=True)
    shutil.copy(SCRIPT, tmp_path / "tests" / "run")
    stand_in = tmp_path / ".venv" / "bin" / "python"
    stand_in.write_text(STAND_IN)
    stand_in.chmod(0o755)
    os.mkfifo(tmp_path / "ready")
    for name in ("log", "ready"):
        monkeypatch.setenv(name.upper(), str(tmp_path / name))
    monkeypatch.setenv("TMPDIR", str(tmp_path / "temporary"))
    yield tmp_path / "log"
    assert list((tmp_path / "temporary").iterdir()) == []


def test_every_part_runs_once(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WAITS", "")
    done = subprocess.run([log.parent / "tests" / "run", "-x"], capture_output=True)
    assert done.returncode == 0
    run = log.read_text().splitlines()
    assert len(run) == len(set(run)) == 5
    assert all(line.startswith("runs: -m pytest -x -m ") for line in run)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("all_are_told", [True, False], ids=["terminal", "ci"])
def test_whoever_ends_it_ends_what_runs_and_nothing_follows(
    number: signal.Signals, all_are_told: bool, log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a Ctrl-C the other parts ran, a quarter of an hour; what was killed left the tests
    running, without their folder."""
    monkeypatch.setenv("WAITS", "1")
    with subprocess.Popen(
        [log.parent / "tests" / "run"], start_new_session=True, stdout=subprocess.DEVNULL
    ) as run:
        # Who writes there as well never comes to an end between the two.
        with open(os.open(log.parent / "ready", os.O_RDWR)) as ready:
            for _ in range(2):
                ready.readline()
        (os.killpg if all_are_told else os.kill)(run.pid, number)
    assert run.returncode == 1
    said = [line.partition(": ")[0] for line in log.read_text().splitlines()]
    assert sorted(said) == ["interrupted", "interrupted", "runs", "runs"]
