"""A log that was removed while its ledger was open."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from raymlops.errors import LedgerError
from raymlops.ledger import Ledger

_HOLD = """
import sys
from raymlops.ledger import Ledger
with Ledger(f"sqlite:///{sys.argv[1]}") as ledger:
    for number in range(3):
        ledger.decisions.add(model="m", kind="k", outcome=str(number), who="w", why="y",
            evidence={}, event_time=None)
    print("open", flush=True)
    sys.stdin.read()
"""

pytestmark = pytest.mark.skipif(
    not Path("/proc/locks").exists(), reason="the kernel tells of no locks"
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.db"


@pytest.fixture
def holder(path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process that has written to the ledger, and has it open."""
    with subprocess.Popen(
        [sys.executable, "-c", _HOLD, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as started:
        assert started.stdout is not None
        assert started.stdout.readline() == b"open\n"
        yield started
        started.kill()


def remove_log(path: Path) -> None:
    for end in ("-wal", "-shm"):
        path.with_name(path.name + end).unlink()


def test_what_was_written_is_saved_by_what_is_told(
    path: Path, holder: subprocess.Popen[bytes]
) -> None:
    # Everybody who came saw an empty ledger, and wrote to it.
    remove_log(path)
    with pytest.raises(LedgerError, match="was removed under those who have it open") as refused:
        Ledger(f"sqlite:///{path}")
    assert not path.with_name("ledger.db-wal").exists()
    (commands,) = re.findall("`(.*)`", str(refused.value))
    subprocess.run(commands, shell=True, check=True)
    holder.wait()
    with Ledger(f"sqlite:///{path}") as ledger:
        assert [each.outcome for each in ledger.decisions.list()] == ["0", "1", "2"]


def test_a_ledger_that_others_have_open_is_opened(
    path: Path, holder: subprocess.Popen[bytes]
) -> None:
    with Ledger(f"sqlite:///{path}") as ledger:
        assert len(ledger.decisions.list()) == 3


def test_a_log_that_went_with_who_had_it_open_is_not_missed(
    path: Path, holder: subprocess.Popen[bytes]
) -> None:
    holder.communicate()
    assert not path.with_name("ledger.db-wal").exists()
    with Ledger(f"sqlite:///{path}") as ledger:
        assert len(ledger.decisions.list()) == 3
