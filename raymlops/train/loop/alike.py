"""Whether all workers, now and before, have the same rows: each opens its source for itself."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import torch.distributed as dist

from raymlops.errors import TrainingError
from raymlops.train.loop.progress import Progress
from raymlops.train.plan.seat import Seat
from raymlops.train.spec.sources import Sources


def require_alike(sources: Sources, seat: Seat) -> None:
    """Raises TrainingError, in every worker, where they have sources of other lengths: one would
    end its epoch before another, which waits for it."""
    if seat.saving is None:
        return
    validation = 0 if sources.validation is None else len(sources.validation)
    everyone: list[Any] = [None] * seat.plan.num_workers
    dist.all_gather_object(everyone, (len(sources.train), validation), group=seat.saving)
    for purpose, lengths in zip(("train", "validate"), zip(*everyone, strict=True), strict=True):
        ranks: dict[int, list[int]] = defaultdict(list)
        for rank, length in enumerate(lengths):
            ranks[length].append(rank)
        if len(ranks) > 1:
            told = "; ".join(
                f"{length} of rank {', '.join(map(str, them))}" for length, them in ranks.items()
            )
            raise TrainingError(
                f"workers have other rows to {purpose} on: {told}: let every machine read the same "
                "file, and replace none while a training begins"
            )


def require_same_epoch(progress: Progress, num_rows: int) -> None:
    """Raises TrainingError where a checkpoint is within an epoch of another number of rows."""
    if progress.batch and progress.num_rows not in (num_rows, None):
        raise TrainingError(
            f"the checkpoint of step {progress.step} is within an epoch of {progress.num_rows} "
            f"rows, and there are {num_rows} now: in their order some would come twice and others "
            "not at all; put back the rows it had, or start a new run"
        )
