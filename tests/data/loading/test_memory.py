"""A file four times the cache is read in memory for the cache; measured by the kernel."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from raymlops.data.loading import write_blocks

CACHE_BYTES = 16 << 20
ROW_BYTES = 1024 * 4 + 8
NUM_ROWS = 4 * CACHE_BYTES // ROW_BYTES

SCRIPT = """
import sys
from pathlib import Path
from raymlops.data.loading import (
    BlockShuffle, Loader, MappedSource, Position, RowShuffle, as_arrays,
)


def mapped_kib(path):
    regions = Path("/proc/self/smaps").read_text().split("VmFlags")
    (region,) = [region for region in regions if path in region]
    return next(int(line.split()[1]) for line in region.splitlines() if line.startswith("Rss:"))


def read(path, make_order, cache_bytes):
    with MappedSource(path, cache_bytes=cache_bytes) as source:
        loader = Loader(
            source=source, order=make_order(len(source)), deliver=as_arrays, batch_size=128
        )
        largest_kib, total = 0, 0
        for epoch in (1, 2):
            for batch in loader.epoch(Position(epoch=epoch)):
                largest_kib = max(largest_kib, mapped_kib(path))
                total += int(batch.columns[1].sum())
    print(largest_kib, total)


path, cache_bytes = sys.argv[1], int(sys.argv[2])
rows = lambda num_rows: RowShuffle(num_rows=num_rows)
read(path, rows, cache_bytes)
read(path, lambda n: BlockShuffle(num_rows=n, block_rows=255, window_blocks=8), cache_bytes)
read(path, rows, 8 * cache_bytes)
"""


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Rows of a page each, and their numbers."""
    path = tmp_path_factory.mktemp("large") / "large.rows"
    numbers = np.arange(NUM_ROWS)
    blocks = (
        (np.repeat(some.astype(np.float32)[:, None], 1024, axis=1), some)
        for some in np.array_split(numbers, 16)
    )
    write_blocks(path, blocks, num_rows=NUM_ROWS, rows_per_chunk=255)
    assert path.stat().st_size > 3.9 * CACHE_BYTES
    return path


def test_no_more_of_a_file_is_resident_than_the_cache(large: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(large), str(CACHE_BYTES)],
        capture_output=True,
        text=True,
        check=True,
    )
    (rows, rows_total), (blocks, blocks_total), (all_of_it, _) = (
        [int(number) for number in line.split()] for line in done.stdout.splitlines()
    )
    assert rows_total == blocks_total == NUM_ROWS * (NUM_ROWS - 1)  # twice the sum of the numbers
    for largest_kib in (rows, blocks):
        assert 0.5 * CACHE_BYTES < largest_kib * 1024 <= CACHE_BYTES
    # What would be seen if nothing left the cache.
    assert all_of_it * 1024 > 3.5 * CACHE_BYTES
