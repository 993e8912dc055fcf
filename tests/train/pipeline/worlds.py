"""Several processes joined by gloo, forked from one that has imported torch already."""

from __future__ import annotations

import multiprocessing
import os
import tempfile
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch.multiprocessing import start_processes

multiprocessing.set_forkserver_preload(
    ["torch.distributed.pipelining", "torch.distributed.fsdp", "sklearn.datasets", __name__]
)

_TIMEOUT = timedelta(seconds=120)


def run_world(size: int, act: Callable[..., Any], *arguments: Any) -> list[Any]:
    """What `act(*arguments)` returns on each of `size` ranks.

    Raises:
        ProcessRaisedException: a rank raised; the others are ended.
    """
    with tempfile.TemporaryDirectory() as folder:
        start_processes(
            _member,
            args=(size, folder, act, arguments),
            nprocs=size,
            start_method="forkserver",
        )
        return [
            torch.load(Path(folder) / f"rank{rank}", weights_only=False) for rank in range(size)
        ]


def _member(
    rank: int, size: int, folder: str, act: Callable[..., Any], arguments: tuple[Any, ...]
) -> None:
    torch.set_num_threads(1)
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    dist.init_process_group(
        "gloo", init_method=f"file://{folder}/store", rank=rank, world_size=size, timeout=_TIMEOUT
    )
    torch.save(act(*arguments), Path(folder) / f"rank{rank}")
    dist.barrier()
    dist.destroy_process_group()
