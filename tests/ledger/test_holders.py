"""Who is told of where nobody can write: readers notice nothing, writers wait."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from raymlops.errors import LedgerError
from raymlops.ledger import Code, Ledger, Run, engines, refusals, turns
from raymlops.ledger.holders import writer_of

_WRITE = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("BEGIN IMMEDIATE")
print("writing", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    with Ledger(f"sqlite:///{tmp_path / 'ledger.db'}"):
        pass
    return tmp_path / "ledger.db"


@pytest.fixture
def writer(path: Path) -> Iterator[psutil.Process]:
    """In the middle of a transaction."""
    with subprocess.Popen(
        [sys.executable, "-c", _WRITE, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as started:
        assert started.stdout is not None
        assert started.stdout.readline() == b"writing\n"
        yield psutil.Process(started.pid)
        started.kill()


@pytest.mark.skipif(not Path("/proc/locks").exists(), reason="the kernel tells of no locks")
def test_a_writer_that_was_stopped_is_named(
    path: Path, writer: psutil.Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    # After a minute it was told that the database is locked, and to look at disk and permissions.
    url = f"sqlite:///{path}"
    found = writer_of(url)
    assert found is not None
    assert (found.pid, found.is_stopped) == (writer.pid, False)
    os.kill(writer.pid, signal.SIGSTOP)
    while writer.status() != psutil.STATUS_STOPPED:
        pass
    for module in (engines, refusals, turns):
        monkeypatch.setattr(module, "PATIENCE_S", 1)
    monkeypatch.setattr(turns, "SILENCE_S", 0.1)
    with Ledger(url) as ledger:
        assert ledger.decisions.list() == []
        told = rf"waited 1 s for process {writer.pid} .* stopped: `kill -CONT {writer.pid}` lets"
        with pytest.raises(LedgerError, match=told):
            ledger.releases.publish("m", {})


WRITES: dict[str, Callable[[Ledger, Run], object]] = {
    "a transaction": lambda ledger, _: ledger.releases.publish("m", {}),
    "a row": lambda ledger, run: ledger.runs.log(run.id, {"loss": 0.5}),
    "rows": lambda ledger, run: ledger.runs.log(run.id, {"loss": 0.5, "auc": 0.5}),
}


@pytest.mark.skipif(not Path("/proc/locks").exists(), reason="the kernel tells of no locks")
@pytest.mark.parametrize("what", WRITES)
def test_whoever_waits_soon_learns_for_whom_and_goes_on_when_it_may(
    path: Path,
    what: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    # It waited in silence for a minute, and then was told that it had failed.
    monkeypatch.setattr(turns, "SILENCE_S", 0.1)
    with Ledger(f"sqlite:///{path}") as ledger:
        run = ledger.runs.start(
            kind="train",
            model="m",
            params={},
            code=Code(commit="c", dirty_digest=None),
            config="{}",
            environment="",
            inputs={},
        )
        with (
            Ledger(f"sqlite:///{path}") as other,
            ThreadPoolExecutor(1) as waiting,
            other.database.write(),
        ):
            written = waiting.submit(WRITES[what], ledger, run)
            while not caplog.messages:
                assert not written.done()
        written.result()
    (told,) = caplog.messages
    assert told.startswith(f"a write to the ledger has waited 0.1 s for process {os.getpid()} (")


def test_nobody_is_named_where_nobody_writes(path: Path, tmp_path: Path) -> None:
    with Ledger(f"sqlite:///{path}") as ledger:
        assert writer_of(ledger.url) is None
        ledger.releases.publish("m", {})
        assert writer_of(ledger.url) is None
    assert writer_of(f"sqlite:///{tmp_path / 'none.db'}") is None
    assert writer_of("postgresql+psycopg://db/raymlops") is None
