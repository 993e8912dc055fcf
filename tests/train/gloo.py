"""Processes that train together over gloo, forked from a server that has torch already."""

from __future__ import annotations

import contextlib
import multiprocessing
import pickle
import tempfile
import traceback
import warnings
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from raymlops.train import ParallelPlan

_PRELOADED = ["raymlops.train.loop", "tests.train.gloo", "tests.train.models",
              "torch.distributed.fsdp", "torch.distributed.tensor.parallel",
              "torch.distributed.algorithms._checkpoint.checkpoint_wrapper"]  # fmt: skip


def run(plan: ParallelPlan, body: Callable[..., Any], *arguments: Any) -> list[Any]:
    """What `body(seat, *arguments)` returns on every rank of the plan, by rank.

    Raises:
        RuntimeError: a rank failed; with its traceback.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_PRELOADED)
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        started = []
        for rank in range(plan.num_workers):
            here, there = context.Pipe(duplex=False)
            process = context.Process(
                target=_rank, args=(there, Path(folder) / "store", plan, rank, body, arguments)
            )
            process.start()
            there.close()
            stack.callback(process.join)
            stack.callback(process.kill)
            started.append(here)
        answers = [_answer(connection, rank) for rank, connection in enumerate(started)]
    failures = [told for failed, told in answers if failed]
    if failures:
        raise RuntimeError("\n".join(failures))
    return [told for _, told in answers]


def _answer(connection: Connection, rank: int) -> tuple[bool, Any]:
    try:
        answer: tuple[bool, Any] = pickle.loads(connection.recv_bytes())
    except EOFError:
        return True, f"rank {rank} died without a word"
    return answer


# Pickled here: the connection's own pickler would share the memory of a process that ends.
def _rank(
    answer: Connection,
    store: Path,
    plan: ParallelPlan,
    rank: int,
    body: Callable[..., Any],
    arguments: tuple[Any, ...],
) -> None:
    import torch
    import torch.distributed as dist

    from raymlops.train.seat import Seat

    torch.set_num_threads(1)
    warnings.simplefilter("error")
    warnings.filterwarnings("ignore", message="torch.distributed is disabled")
    try:
        if plan.num_workers > 1:
            dist.init_process_group(
                "gloo", init_method=f"file://{store}", rank=rank, world_size=plan.num_workers
            )
        result = body(Seat.take(plan), *arguments)
        answer.send_bytes(pickle.dumps((False, result)))
        if plan.num_workers > 1:
            dist.barrier()
    except Exception:
        answer.send_bytes(pickle.dumps((True, f"rank {rank} of {plan}:\n{traceback.format_exc()}")))
    answer.close()
