"""Where a training's rows come from."""

from __future__ import annotations

from dataclasses import dataclass

from raymlops.data.loading import Source
from raymlops.errors import TrainingError
from raymlops.train.factory import Factory


@dataclass(frozen=True, kw_only=True)
class Sources:
    """What to train on, and what to validate on after each epoch."""

    train: Source
    validation: Source | None = None

    @classmethod
    def make(cls, data: Factory) -> Sources:
        """What the spec's `data` gives: a source, or a pair of them.

        Raises:
            TrainingError: there are no rows to train on.
        """
        made = data.make()
        train, validation = made if isinstance(made, tuple) else (made, None)
        if len(train) == 0:
            raise TrainingError(f"{data.call} gives no rows to train on")
        return cls(train=train, validation=validation)
