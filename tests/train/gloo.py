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


class DeadRankError(RuntimeError):
    """A rank ended without an answer; what the others raised is not the cause."""


def run(plan: ParallelPlan, body: Callable[..., Any], *arguments: Any) -> list[Any]:
    """What `body(seat, *arguments)` returns on every rank of the plan, by rank.

    Raises:
        DeadRankError: a rank was killed.
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
        answers = [_answer(connection) for connection in started]
    dead = [rank for rank, answer in enumerate(answers) if answer is None]
    if dead:
        raise DeadRankError(f"ranks {dead} of {plan} died without a word")
    failures = [told for failed, told in filter(None, answers) if failed]
    if failures:
        raise RuntimeError("\n".join(failures))
    return [told for _, told in filter(None, answers)]


def _answer(connection: Connection) -> tuple[bool, Any] | None:
    """Whether a rank failed, and what it says; None of one that died."""
    try:
        answer: tuple[bool, Any] = pickle.loads(connection.recv_bytes())
    except EOFError:
        return None
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
