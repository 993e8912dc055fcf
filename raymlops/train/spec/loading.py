"""In which order a training reads its rows, and how far ahead."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from raymlops.data.loading import BlockShuffle, ChunkedSource, InOrder, Order, RowShuffle, Source
from raymlops.errors import TrainingError
from raymlops.train.checks import require_types

OrderName: TypeAlias = Literal["rows", "blocks", "none"]


@dataclass(frozen=True, kw_only=True)
class LoadingSpec:
    """How each worker reads its rows; the order is the same for any number of workers.

    `order` is another one each epoch: of "rows", any of which may follow any other; of "blocks"
    of `block_rows` rows, by default the chunks of the source's file, and within each
    `window_blocks` of them of rows, for files larger than memory; or "none", as they lie.

    `num_threads` threads read up to `num_ahead` batches while the training computes; with none it
    reads for itself.
    """

    order: OrderName = "rows"
    block_rows: int | None = None
    window_blocks: int = 16
    num_threads: int = 1
    num_ahead: int = 2

    def __post_init__(self) -> None:
        require_types(self)
        if self.block_rows is not None and self.order != "blocks":
            raise ValueError(
                f"block_rows is {self.block_rows} and order {self.order}; blocks are of the order "
                "'blocks' alone"
            )
        counts = {"block_rows": self.block_rows or 1, "window_blocks": self.window_blocks,
                  "num_ahead": self.num_ahead}  # fmt: skip
        if self.num_threads < 0 or self.block_rows == 0 or min(counts.values()) < 1:
            told = ", ".join(f"{name} is {getattr(self, name)}" for name in counts)
            raise ValueError(
                f"{told} and num_threads {self.num_threads}; the last is not negative, the others "
                "are at least 1"
            )


def make_order(spec: LoadingSpec, source: Source, *, seed: int) -> Order:
    """The order of the source's rows.

    Raises:
        TrainingError: blocks are asked for, of a size that neither spec nor source know.
    """
    num_rows = len(source)
    if spec.order == "none":
        return InOrder(num_rows=num_rows)
    if spec.order == "rows":
        return RowShuffle(num_rows=num_rows, seed=seed)
    block_rows = spec.block_rows
    if block_rows is None:
        if not isinstance(source, ChunkedSource):
            raise TrainingError(
                f"loading.order is blocks, and a {type(source).__name__} has no chunks: set "
                "loading.block_rows"
            )
        block_rows = source.rows_per_chunk
    return BlockShuffle(
        num_rows=num_rows, block_rows=block_rows, window_blocks=spec.window_blocks, seed=seed
    )
