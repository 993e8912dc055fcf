"""In which order rows are read: by seed and epoch alone, the same whoever reads them.

RowShuffle     7 2 9 0 5 1 8 3 6 4         any row may follow any other
BlockShuffle   7 8 1 6 2 0│4 9 3 5         blocks of rows in any order, and within a window of
               └─ 0-2, 6-8 ─┘              some of them any row: only these blocks are in memory
InOrder        0 1 2 3 4 5 6 7 8 9
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.int64]


class Order(Protocol):
    """An order of `num_rows` rows, another one each epoch."""

    @property
    def num_rows(self) -> int: ...

    def pieces(self, epoch: int, start: int = 0) -> Iterator[Rows]:
        """The numbers of the rows of one epoch, from the `start`-th on, in pieces of any length."""
        ...


@dataclass(frozen=True, kw_only=True)
class InOrder:
    """As they lie: for what is measured, not learned from."""

    num_rows: int

    def pieces(self, epoch: int, start: int = 0) -> Iterator[Rows]:
        for first in range(start, self.num_rows, _PIECE_ROWS):
            yield np.arange(first, min(first + _PIECE_ROWS, self.num_rows))


@dataclass(frozen=True, kw_only=True)
class RowShuffle:
    """A permutation of all rows, of which 8 bytes a row are in memory.

    Reads all over the file: for rows that fit into memory.
    """

    num_rows: int
    seed: int = 0

    def pieces(self, epoch: int, start: int = 0) -> Iterator[Rows]:
        yield np.random.default_rng((self.seed, epoch)).permutation(self.num_rows)[start:]


@dataclass(frozen=True, kw_only=True)
class BlockShuffle:
    """A permutation of blocks, and within each `window_blocks` of them one of their rows.

    For files larger than memory: choose blocks of a file's `rows_per_chunk`, and a window that
    fits into the cache, and each chunk is read once an epoch.
    """

    num_rows: int
    block_rows: int
    window_blocks: int
    seed: int = 0

    def __post_init__(self) -> None:
        if self.block_rows < 1 or self.window_blocks < 1:
            raise ValueError(
                f"block_rows is {self.block_rows} and window_blocks {self.window_blocks}; both are "
                "at least 1"
            )

    def pieces(self, epoch: int, start: int = 0) -> Iterator[Rows]:
        num_blocks = -(-self.num_rows // self.block_rows)
        blocks = np.random.default_rng((self.seed, epoch)).permutation(num_blocks)
        before = 0
        for window, first in enumerate(range(0, num_blocks, self.window_blocks)):
            rows = self._rows_of(blocks[first : first + self.window_blocks])
            before += len(rows)
            if before > start:
                # A generator a window, so that none before has to be shuffled to begin here.
                np.random.default_rng((self.seed, epoch, window)).shuffle(rows)
                yield rows[len(rows) - min(before - start, len(rows)) :]

    def _rows_of(self, blocks: Rows) -> Rows:
        rows = (blocks[:, None] * self.block_rows + np.arange(self.block_rows)).reshape(-1)
        return rows[rows < self.num_rows]


_PIECE_ROWS = 1 << 16
