"""A ledger in a folder that somebody else owns can be read, and not written."""

from __future__ import annotations

import ctypes
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from raymlops.ledger import Ledger
from tests.disks import output_on_small_disk

_READ_AND_WRITE = """
import sys
from raymlops.errors import LedgerError
from raymlops.ledger import Ledger

with Ledger(sys.argv[1]) as ledger:
    print(ledger.releases.published("m"))
    try:
        ledger.releases.publish("m", {"by": "the colleague"})
    except LedgerError as error:
        print(error)
"""

_PR_CAPBSET_DROP = 24
_DAC_OVERRIDE, _DAC_READ_SEARCH = 1, 2


def _as_anybody() -> None:
    """Has the program that is started mind the rights of files, also as root."""
    libc = ctypes.CDLL(None)
    for capability in (_DAC_OVERRIDE, _DAC_READ_SEARCH):
        libc.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0)


def colleague(url: str) -> list[str]:
    """What a process says that reads the ledger and then writes to it."""
    done = subprocess.run(
        [sys.executable, "-c", _READ_AND_WRITE, url],
        preexec_fn=_as_anybody,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.splitlines()


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "höme of #1"
    folder.mkdir()
    with Ledger(f"sqlite:///{folder / 'ledger.db'}") as ledger:
        ledger.releases.publish("m", {"by": "its owner"})
    yield folder
    folder.chmod(0o755)


@pytest.mark.skipif(sys.platform != "linux", reason="root is told from others by capabilities")
def test_who_may_only_read_reads_whether_somebody_writes_or_not(folder: Path) -> None:
    # With nobody at work even `raymlops status` was "attempt to write a readonly database".
    path = folder / "ledger.db"
    url = f"sqlite:///{path}"
    path.chmod(0o444)
    folder.chmod(0o555)
    seen, refused = colleague(url)
    assert seen == "(1, {'by': 'its owner'})"
    assert "did not acknowledge a write: attempt to write a readonly database" in refused
    path.chmod(0o644)
    folder.chmod(0o755)
    with Ledger(url) as ledger:
        ledger.releases.publish("m", {"by": "its owner again"})
        path.chmod(0o444)
        folder.chmod(0o555)
        assert colleague(url)[0] == "(2, {'by': 'its owner again'})"
        folder.chmod(0o755)


_ON_A_FULL_DISK = """
import os, sys
from raymlops.errors import LedgerError
from raymlops.ledger import Ledger

folder = sys.argv[1]
url = f"sqlite:///{folder}/ledger.db"
with Ledger(url) as ledger:
    ledger.releases.publish("m", {"by": "who had room"})
filling = os.open(f"{folder}/all", os.O_CREAT | os.O_WRONLY)
try:
    while True:
        os.write(filling, bytes(4096))
except OSError:
    pass
for _ in range(2):  # also after who had no room to write
    with Ledger(url) as ledger:
        print(ledger.releases.published("m"))
        try:
            ledger.releases.publish("m", {"by": "who has none"})
        except LedgerError as error:
            print(str(error).rpartition("; ")[2])
with Ledger(url) as ledger:
    os.truncate(filling, 0)
    ledger.releases.publish("m", {"by": "who has room again"})
    print(ledger.releases.published("m"))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="mounts a disk")
def test_on_a_full_disk_a_ledger_is_read(tmp_path: Path) -> None:
    # `raymlops status`, and all that only read, were "disk I/O error".
    refused = "see that the file can be read and written, and that its disk is not full"
    seen = "(1, {'by': 'who had room'})"
    assert output_on_small_disk(_ON_A_FULL_DISK, tmp_path) == [
        *(seen, refused) * 2,
        "(2, {'by': 'who has room again'})",
    ]
