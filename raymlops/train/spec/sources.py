"""Where a training's rows come from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeGuard

from raymlops.data.loading import Source
from raymlops.errors import TrainingError
from raymlops.train.spec.factory import Factory
from raymlops.train.spec.spec import StoppingPolicy


@dataclass(frozen=True, kw_only=True)
class Sources:
    """What to train on, and what to validate on after each epoch."""

    train: Source
    validation: Source | None = None

    @classmethod
    def make(cls, data: Factory) -> Sources:
        """What the spec's `data` gives: a source, or a pair of them.

        Raises:
            TrainingError: it gives something else, or a source without rows.
        """
        made = data.make()
        given = tuple(made) if isinstance(made, tuple | list) else (made,)
        train, validation = given if len(given) == 2 else (made, None)
        if not _is_source(train) or not (validation is None or _is_source(validation)):
            raise TrainingError(
                f"{data.call} gives {_told(made)}; it gives a Source, or a pair of them, to train "
                "and to validate on: ArraySource([inputs, targets]) of raymlops.data.loading makes "
                "one of arrays"
            )
        for source, purpose in ((train, "train"), (validation, "validate")):
            if source is not None and len(source) == 0:
                raise TrainingError(f"{data.call} gives no rows to {purpose} on")
        return cls(train=train, validation=validation)

    @property
    def lengths(self) -> tuple[int, int]:
        """How many rows there are to train on, and to validate on."""
        return len(self.train), 0 if self.validation is None else len(self.validation)

    def require_for(self, stopping: StoppingPolicy) -> None:
        """Raises TrainingError where the policy waits for a loss that nothing gives."""
        if stopping.patience is not None and self.validation is None:
            raise TrainingError(
                f"stopping.patience is {stopping.patience}, and the data hold nothing to validate "
                "on: let its factory give a pair of sources, or set patience to null"
            )


def _is_source(given: object) -> TypeGuard[Source]:
    """Arrays and tables have a length and `take` as well, which gives no columns."""
    has_rows = hasattr(given, "take") and hasattr(given, "__len__")
    return has_rows and not hasattr(given, "__array__")


def _told(made: object) -> str:
    if not isinstance(made, tuple | list):
        return f"a {type(made).__name__}"
    return f"a {type(made).__name__} of {', '.join(type(each).__name__ for each in made)}"
