"""What to search, and how far."""

from __future__ import annotations

import math
from dataclasses import dataclass

from raymlops.train.checks import require_positive
from raymlops.train.tabular.spec import TabularSpec


@dataclass(frozen=True, kw_only=True)
class TuneSpec:
    """The space around a train spec: choices for `hidden`, (low, high) for the rest.

    Learning rate and weight decay are searched on a logarithmic scale. Each trial uses
    `cpus_per_trial` CPUs.
    """

    num_trials: int = 16
    max_concurrent: int = 2
    cpus_per_trial: float = 1.0
    hidden: tuple[tuple[int, ...], ...] = ((32,), (64, 32), (128, 64))
    dropout: tuple[float, float] = (0.0, 0.4)
    learning_rate: tuple[float, float] = (3e-4, 1e-2)
    weight_decay: tuple[float, float] = (1e-4, 1e-1)

    def __post_init__(self) -> None:
        if self.num_trials < 1 or self.max_concurrent < 1:
            raise ValueError(
                f"num_trials is {self.num_trials} and max_concurrent {self.max_concurrent}; "
                "both are at least 1"
            )
        require_positive("cpus_per_trial", self.cpus_per_trial)
        for name in ("dropout", "learning_rate", "weight_decay"):
            low, high = getattr(self, name)
            if not -math.inf < low <= high < math.inf:
                raise ValueError(
                    f"{name} runs from {low} to {high}; give finite ends, the lower one first"
                )
        if self.learning_rate[0] <= 0 or self.weight_decay[0] <= 0:
            raise ValueError(
                f"learning_rate starts at {self.learning_rate[0]} and weight_decay at "
                f"{self.weight_decay[0]}; a logarithmic scale needs positive ends"
            )
        if not self.hidden:
            raise ValueError("hidden offers no choice; give at least one, such as [[64, 32]]")
        for widths in self.hidden:
            TabularSpec(hidden=widths)  # refuses what no trial could train
        for dropout in self.dropout:
            TabularSpec(dropout=dropout)
