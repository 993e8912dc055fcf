"""Real workers: processes of one gloo group, forked from a server that has torch already."""

from __future__ import annotations

import multiprocessing
import tempfile
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

Result = TypeVar("Result")

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(
    ["torch.distributed", "raymlops.train.compression", "tests.train.compression.test_hook"]
)


def run_workers(work: Callable[..., Result], *arguments: Any, world_size: int) -> list[Result]:
    """What `work(rank, *arguments)` returns on each worker; it must be found by its name."""
    with (
        tempfile.TemporaryDirectory() as folder,
        ProcessPoolExecutor(world_size, _CONTEXT) as processes,
    ):
        meeting = Path(folder) / "meeting"
        running = [
            processes.submit(_join, meeting, rank, world_size, work, *arguments)
            for rank in range(world_size)
        ]
        return [each.result() for each in running]


def _join(
    meeting: Path, rank: int, world_size: int, work: Callable[..., Result], *arguments: Any
) -> Result:
    import torch
    import torch.distributed as dist

    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", init_method=f"file://{meeting}", rank=rank, world_size=world_size
    )
    try:
        return work(rank, *arguments)
    finally:
        dist.destroy_process_group()
