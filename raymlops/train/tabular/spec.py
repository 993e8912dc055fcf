"""What to train on a table."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class TabularSpec:
    """A model of a table: a multilayer perceptron, Adam, a fixed number of epochs.

    `batch_size` is global: every plan sees the same batches. `validation_share` is the newest part
    of the table, which nothing is fitted on. `threshold` is that of a 0/1 target: of several
    classes the likeliest is said, and a number as it is.
    """

    hidden: tuple[int, ...] = (64, 32)
    dropout: float = 0.1
    epochs: int = 8
    batch_size: int = 1024
    learning_rate: float = 1e-3
    weight_decay: float = 1e-4
    validation_share: float = 0.2
    threshold: float = 0.5
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.hidden or min(self.hidden) < 1:
            raise ValueError(f"hidden is {self.hidden}; give one width of at least 1 a layer")
        if not 0.0 <= self.dropout < 1.0:
            raise ValueError(f"dropout is {self.dropout}, not within [0, 1)")
        if self.epochs < 1 or self.batch_size < 1:
            raise ValueError(
                f"epochs is {self.epochs} and batch_size {self.batch_size}; both are at least 1"
            )
        if not (0 < self.learning_rate < math.inf and 0 <= self.weight_decay < math.inf):
            raise ValueError(
                f"learning_rate is {self.learning_rate} and weight_decay {self.weight_decay}; "
                "the first is positive, the second not negative, and both are finite"
            )
        if not 0.0 < self.validation_share < 1.0:
            raise ValueError(f"validation_share is {self.validation_share}, not between 0 and 1")
        if not 0.0 < self.threshold < 1.0:
            raise ValueError(f"threshold is {self.threshold}, not between 0 and 1")
