"""Hashing a dataset's files: the first time in threads, the second time from what stat says."""

from __future__ import annotations

import hashlib
import os
import tempfile
import time
from pathlib import Path

from benchmarks.figures import Figure, paired_medians, seconds
from raymlops.data.hashing import FileHasher

NUM_FILES = 64
GOAL_TIMES = 50


def figures(quick: bool) -> list[Figure]:
    size_mb, repeats = (256, 3) if quick else (1024, 5)
    with tempfile.TemporaryDirectory(prefix="raymlops-bench-") as folder:
        paths = _files(Path(folder), size_mb)
        first, serial = paired_medians(
            lambda: FileHasher().digests(paths), lambda: _serial(paths), repeats=repeats
        )
        time.sleep(0.05)  # a digest is kept of files that are older than a tick of their clock
        hasher = FileHasher(Path(folder) / "cache.db")
        filled = seconds(lambda: hasher.digests(paths))
        known, _ = paired_medians(lambda: hasher.digests(paths), lambda: None, repeats=9)
    return [
        Figure(
            name="hash_first_mb_per_s",
            unit="MB/s",
            ours=size_mb / first,
            references={"hashlib, one file after the other": size_mb / serial},
        ),
        Figure(
            name="hash_unchanged_speedup_ratio",
            unit="times",
            ours=filled / known,
            references={"the first hash": 1.0},
            goal=f">= {GOAL_TIMES}",
            met=filled / known >= GOAL_TIMES,
        ),
    ]


def _files(folder: Path, size_mb: int) -> list[Path]:
    paths = [folder / f"{number}.bin" for number in range(NUM_FILES)]
    for path in paths:
        path.write_bytes(os.urandom((size_mb << 20) // NUM_FILES))
    return paths


def _serial(paths: list[Path]) -> list[str]:
    found = []
    for path in paths:
        with path.open("rb") as file:
            found.append(hashlib.file_digest(file, "sha256").hexdigest())
    return found
