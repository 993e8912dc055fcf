"""Whether all workers, now and before, have the same rows: each opens its source for itself."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from raymlops.errors import TrainingError
from raymlops.train.loop.progress import Progress


def require_alike(lengths: Sequence[Sequence[int]]) -> None:
    """Raises TrainingError where workers have sources of other lengths: one would end its epoch
    before another, which waits for it. `lengths` are each worker's `Sources.lengths`, by rank."""
    for purpose, of_purpose in zip(("train", "validate"), zip(*lengths, strict=True), strict=True):
        ranks: dict[int, list[int]] = defaultdict(list)
        for rank, length in enumerate(of_purpose):
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
