"""Shuffled rows a second against torch's DataLoader on the same file, and what is resident."""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sklearn.datasets import load_digits

from benchmarks.figures import Figure, report
from raymlops.data.loading import (
    BlockShuffle,
    Loader,
    MappedSource,
    Order,
    Position,
    RowShuffle,
    Tensors,
    write_arrays,
)
from raymlops.data.loading.layout import read_header

BATCH_SIZE = 256
ROWS_PER_CHUNK = 2000
ROW_BYTES = 64 * 4 + 8

Rows = tuple[NDArray[np.float32], NDArray[np.int64]]


class Mapped:
    """The columns of the file, as users of torch would map them; a row or a batch of rows."""

    def __init__(self, path: Path) -> None:
        with path.open("rb") as file:
            layout = read_header(file, path, path.stat().st_size).layout
        self._columns = [
            np.memmap(path, field.dtype, "r", offset, (layout.num_rows, *field.shape))
            for field, offset in zip(layout.fields, layout.offsets, strict=False)
        ]

    def __len__(self) -> int:
        return len(self._columns[0])

    def __getitem__(self, rows: int | list[int]) -> tuple[object, ...]:
        return tuple(column[rows].copy() for column in self._columns)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--quick", action="store_true", help="50,000 rows instead of 1,000,000, once"
    )
    num_rows, repeats = (50_000, 1) if parser.parse_args().quick else (1_000_000, 3)
    with tempfile.TemporaryDirectory(prefix="raymlops-bench-") as folder:
        path = Path(folder) / "digits.rows"
        _write(path, num_rows)
        report("loader", [*_rates(path, num_rows, repeats), *_memory(path, num_rows)])


def _write(path: Path, num_rows: int) -> None:
    """scikit-learn's digits again and again."""
    images, labels = load_digits(return_X_y=True)
    rows = np.arange(num_rows) % len(images)
    columns = (images.astype(np.float32)[rows], labels.astype(np.int64)[rows])
    write_arrays(path, columns, rows_per_chunk=ROWS_PER_CHUNK)


def _rates(path: Path, num_rows: int, repeats: int) -> list[Figure]:
    """Medians of epochs run in turn; the first, unmeasured, warms the page cache."""
    window = BlockShuffle(num_rows=num_rows, block_rows=ROWS_PER_CHUNK, window_blocks=4)
    all_rows = RowShuffle(num_rows=num_rows)
    in_cache, quarter = num_rows * ROW_BYTES * 4, num_rows * ROW_BYTES // 4
    mapped = Mapped(path)
    large, small, other = (MappedSource(path, cache_bytes=b) for b in (in_cache, quarter, quarter))
    readers: dict[str, Callable[[], Iterable[object]]] = {
        "ours": lambda: _ours(large, all_rows),
        "ours, cache a quarter": lambda: _ours(small, all_rows),
        "ours, cache a quarter, by blocks": lambda: _ours(other, window),
        "DataLoader, 0 workers": lambda: _torch(mapped, num_workers=0, by_batch=False),
        "DataLoader, 2 workers": lambda: _torch(mapped, num_workers=2, by_batch=False),
        "DataLoader by batch, 0 workers": lambda: _torch(mapped, num_workers=0, by_batch=True),
        "DataLoader by batch, 2 workers": lambda: _torch(mapped, num_workers=2, by_batch=True),
    }
    taken: dict[str, list[float]] = {name: [] for name in readers}
    for _ in range(repeats + 1):
        for name, read in readers.items():
            started = time.perf_counter()
            num_batches = sum(1 for _ in read())
            taken[name].append(time.perf_counter() - started)
            assert num_batches == -(-num_rows // BATCH_SIZE)
    rates = {name: num_rows / statistics.median(each[1:]) for name, each in taken.items()}
    references = {name: rate for name, rate in rates.items() if name.startswith("DataLoader")}
    best = max(references.values())
    return [
        Figure(
            name="shuffled_rows_per_s",
            unit="rows/s",
            ours=rates["ours"],
            references=references,
            goal="> every reference",
            met=rates["ours"] > best,
        ),
        *(
            Figure(
                name=f"shuffled_{kind}_of_a_file_4_times_the_cache_rows_per_s",
                unit="rows/s",
                ours=rates[name],
                references=references,
            )
            for kind, name in (
                ("rows", "ours, cache a quarter"),
                ("blocks", "ours, cache a quarter, by blocks"),
            )
        ),
    ]


def _ours(source: MappedSource, order: Order) -> Iterable[object]:
    loader = Loader(source=source, order=order, deliver=Tensors(), batch_size=BATCH_SIZE)
    return loader.epoch(Position())


def _torch(rows: Mapped, *, num_workers: int, by_batch: bool) -> Iterable[object]:
    from torch.utils.data import BatchSampler, DataLoader, RandomSampler

    if not by_batch:
        return DataLoader(rows, batch_size=BATCH_SIZE, shuffle=True, num_workers=num_workers)  # type: ignore[arg-type]
    batches = BatchSampler(RandomSampler(rows), BATCH_SIZE, drop_last=False)  # type: ignore[arg-type]
    return DataLoader(rows, batch_size=None, sampler=batches, num_workers=num_workers)  # type: ignore[arg-type]


def _memory(path: Path, num_rows: int) -> list[Figure]:
    """The most of the file that was resident in a fresh process, after any batch."""
    file_mb, cache_bytes = num_rows * ROW_BYTES / 1e6, num_rows * ROW_BYTES // 4
    found = []
    for kind in ("rows", "blocks"):
        with ProcessPoolExecutor(1, get_context("spawn")) as process:
            largest_mb = process.submit(_resident_mb, path, kind, cache_bytes).result()
        found.append(
            Figure(
                name=f"resident_of_a_file_4_times_the_cache_{kind}_mb",
                unit="MB",
                ours=largest_mb,
                references={"the cache": cache_bytes / 1e6, "the file": file_mb},
                goal="<= the cache",
                met=largest_mb <= cache_bytes / 1e6,
            )
        )
    return found


def _resident_mb(path: Path, kind: str, cache_bytes: int) -> float:
    num_rows = 4 * cache_bytes // ROW_BYTES
    order: Order = RowShuffle(num_rows=num_rows)
    if kind == "blocks":
        order = BlockShuffle(num_rows=num_rows, block_rows=ROWS_PER_CHUNK, window_blocks=4)
    with MappedSource(path, cache_bytes=cache_bytes) as source:
        return max(_rss_mb(path) for _ in _ours(source, order))


def _rss_mb(path: Path) -> float:
    regions = Path("/proc/self/smaps").read_text().split("VmFlags")
    (region,) = [region for region in regions if str(path) in region]
    line = next(line for line in region.splitlines() if line.startswith("Rss:"))
    return int(line.split()[1]) * 1024 / 1e6


if __name__ == "__main__":
    main()
