"""Large artifacts pass in bounded memory, in a process of its own, whose peak is measured."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

SIZE_MB = 384

SCRIPT = """
import sys
from pathlib import Path
from raymlops.storage import Store


def peak_kib():  # ru_maxrss would be that of the process this one was forked from
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))


store, source, target = Store(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3])
store.get(store.put(b"connected"))
before = peak_kib()
tree = store.put_tree({"weights": source})
store.verify_tree(tree)
store.fetch(store.tree(tree)["weights"], target)
print(peak_kib() - before)
"""


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("large") / "weights"
    piece = os.urandom(1 << 20)
    with path.open("wb") as file:
        for number in range(SIZE_MB):
            file.write(number.to_bytes(4) + piece[4:])
    return path


def test_an_artifact_is_stored_verified_and_fetched_in_less_memory_than_it_fills(
    uri: str, large: Path, tmp_path: Path
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, uri, str(large), str(tmp_path / "fetched")],
        capture_output=True,
        text=True,
        check=True,
    )
    assert 0 < int(done.stdout) < 200 << 10
    assert (tmp_path / "fetched").stat().st_size == SIZE_MB << 20
