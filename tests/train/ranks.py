"""Processes that train together over gloo, forked from a server that has torch already."""

from __future__ import annotations

import contextlib
import pickle
import tempfile
import traceback
import warnings
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from tests.processes import PROCESSES


class DeadRankError(RuntimeError):
    """A rank ended without an answer; what the others raised is not the cause."""


def run_ranks(num_ranks: int, body: Callable[..., Any], *arguments: Any) -> list[Any]:
    """What `body(*arguments)` returns on every rank, by rank; a group of one is no group.

    Raises:
        DeadRankError: a rank was killed.
        RuntimeError: a rank failed; with its traceback.
    """
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        started = []
        for rank in range(num_ranks):
            here, there = PROCESSES.Pipe(duplex=False)
            process = PROCESSES.Process(
                target=_rank,
                args=(there, Path(folder) / "store", rank, num_ranks, body, arguments),
            )
            process.start()
            there.close()
            stack.callback(process.join)
            stack.callback(process.kill)
            started.append(here)
        answers = [_answer(connection) for connection in started]
    dead = [rank for rank, answer in enumerate(answers) if answer is None]
    if dead:
        raise DeadRankError(f"ranks {dead} of {num_ranks} died without a word")
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
    rank: int,
    num_ranks: int,
    body: Callable[..., Any],
    arguments: tuple[Any, ...],
) -> None:
    import torch
    import torch.distributed as dist

    torch.set_num_threads(1)
    warnings.simplefilter("error")
    warnings.filterwarnings("ignore", message="torch.distributed is disabled")
    # Of a stage that ends in a view: what passes on to the next stage is a copy.
    warnings.filterwarnings("ignore", message="FSDP2-wrapped module")
    # Of torch's own Adagrad, which makes sparse tensors without a word on their checks.
    warnings.filterwarnings("ignore", message="Sparse invariant checks")
    # Of torch.compile, which looks at every attribute of what passes from stage to stage.
    warnings.filterwarnings("ignore", message="The .grad attribute of a Tensor that is not a leaf")
    try:
        if num_ranks > 1:
            dist.init_process_group(
                "gloo", init_method=f"file://{store}", rank=rank, world_size=num_ranks
            )
        result = body(*arguments)
        answer.send_bytes(pickle.dumps((False, result)))
        if num_ranks > 1:
            dist.barrier()
    except Exception:
        told = f"rank {rank} of {num_ranks}:\n{traceback.format_exc()}"
        answer.send_bytes(pickle.dumps((True, told)))
    answer.close()
