"""Whether a model takes the rows that the data give."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from raymlops.errors import TrainingError
from raymlops.train.keras.targets import NO_NUMBERS, Targets

if TYPE_CHECKING:
    from raymlops.train.keras.spec import KerasSpec
    from raymlops.train.spec.sources import Sources


def require_fitting(spec: KerasSpec, model: Any, targets: Targets, sources: Sources) -> None:
    """Raises TrainingError where the model does not take the rows to train or to validate on, or
    the loss not their targets, with what both are."""
    for source in (sources.train, sources.validation):
        if source is not None:
            *columns, given = source.take(np.zeros(1, np.int64))
            _require_inputs(spec, model, columns)
            targets.require_form(given)


def _require_inputs(spec: KerasSpec, model: Any, columns: Sequence[Any]) -> None:
    inputs = model.inputs or ()
    given = [tuple(column.shape[1:]) for column in columns]
    taken = [tuple(each.shape[1:]) for each in inputs]
    if taken and not (len(given) == len(taken) and all(map(_fits, given, taken))):
        raise TrainingError(
            f"{spec.model.call} takes rows of shape {_told(taken)}, and {spec.data.call} gives "
            f"them of shape {_told(given)}: let the data give the first, or the model's Input take "
            "the second"
        )
    for column, each in zip(columns, inputs, strict=False):
        if column.dtype.kind in NO_NUMBERS and each.dtype != "string":
            wanted = getattr(each.dtype, "name", each.dtype)  # Keras 3 has texts
            raise TrainingError(
                f"{spec.model.call} takes rows of type {wanted}, and {spec.data.call} gives them "
                f"of type {column.dtype}: let the data give numbers"
            )


def _fits(given: tuple[int, ...], taken: tuple[int | None, ...]) -> bool:
    # Of another rank Keras makes what the model wants, or says itself that it cannot.
    same_rank = len(given) == len(taken)
    return not same_rank or all(t in (None, g) for g, t in zip(given, taken, strict=True))


def _told(shapes: Sequence[tuple[int | None, ...]]) -> str:
    return " and ".join(str(list(shape)) for shape in shapes) or "none, targets apart"
