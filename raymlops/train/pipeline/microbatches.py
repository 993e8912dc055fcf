"""A batch cut into microbatches of one size, since every stage receives into fixed buffers.

10 rows, 3 microbatches of 4:   0 1 2 3 | 4 5 6 7 | 8 9 9 9
                                                        ^^^ repeated, and cut off before the loss
"""

from __future__ import annotations

from dataclasses import dataclass

import torch


@dataclass(frozen=True, kw_only=True)
class Microbatches:
    """`count` microbatches of `size` rows."""

    count: int
    size: int

    def __post_init__(self) -> None:
        if self.size < 1:
            raise ValueError(f"microbatch_size is {self.size}; a microbatch has at least one row")

    @property
    def max_rows(self) -> int:
        return self.count * self.size

    def check(self, num_rows: int) -> None:
        """Refuses a batch that does not fit.

        Raises:
            ValueError: with both numbers and the microbatch size that would do.
        """
        if num_rows > self.max_rows:
            raise ValueError(
                f"the batch has {num_rows} rows, more than {self.count} microbatches of "
                f"{self.size} hold ({self.max_rows}); nearest: "
                f"microbatch_size={-(-num_rows // self.count)}"
            )

    def rows(self, index: int, num_rows: int) -> slice:
        """The rows of a batch of `num_rows` in microbatch `index`; none in those it does not
        reach."""
        start = min(index * self.size, num_rows)
        return slice(start, min(start + self.size, num_rows))

    def pad(self, batch: torch.Tensor) -> torch.Tensor:
        """`batch` [rows, ...] with its last row repeated (zeros if it has none) up to `max_rows`.

        A real row stands in, since one made up might be a number that no layer takes.
        """
        missing = self.max_rows - len(batch)
        if not missing:
            return batch
        if not len(batch):
            return batch.new_zeros(missing, *batch.shape[1:])
        return torch.cat([batch, batch[-1:].expand(missing, *batch.shape[1:])])
