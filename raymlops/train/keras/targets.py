"""Whether targets are such as the losses that raymlops names take.

Keras cuts 3.5 to class 3, holds targets of one shape against outputs of another, and learns from
classes that a model does not tell apart: on GPUs their loss is no number.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from raymlops.errors import TrainingError
from raymlops.train.keras.spec import KerasSpec

NO_NUMBERS = "OUSMm"
"""Kinds of numpy's types: objects, texts, times."""


class Targets:
    """What the spec's loss takes of a model whose outputs have this shape, [rows, ...].

    Losses of one's own take whatever they are given.
    """

    def __init__(self, spec: KerasSpec, output_shape: tuple[int | None, ...]) -> None:
        self._call = spec.data.call
        self._loss = spec.loss
        self._outputs = output_shape[1:]

    def require_form(self, targets: NDArray[Any]) -> None:
        """Raises TrainingError where the loss takes none of this type or shape, [rows, ...]."""
        if not isinstance(self._loss, str):
            return
        given = f"{self._call} gives targets of type {targets.dtype}"
        if targets.dtype.kind in NO_NUMBERS:
            raise TrainingError(
                f"{given}, and loss {self._loss} takes numbers, of classes those from 0"
            )
        of_classes = self._loss == "cross_entropy"
        taken = self._outputs[:-1] if of_classes else self._outputs
        alike = [taken, (*taken, 1)]
        if taken[-1:] == (1,) and not of_classes:
            alike.append(taken[:-1])
        if not any(_fits(targets.shape[1:], shape) for shape in alike):
            raise TrainingError(
                f"{self._call} gives targets of shape {_told(targets.shape[1:])}, and loss "
                f"{self._loss} takes those of shape {_told(taken)} for outputs of shape "
                f"{_told(self._outputs)}: let the data give such, the model such outputs, or set a "
                "loss of your own"
            )
        if of_classes and targets.dtype.kind not in "iub":
            raise TrainingError(
                f"{given}, and loss cross_entropy takes the numbers of classes: let the data give "
                "whole ones, as by astype('int64')"
            )

    def require_values(
        self, targets: NDArray[Any], rows: NDArray[np.int64], *, purpose: str
    ) -> None:
        """Raises TrainingError where the loss does not take one of these, which are those of
        `rows` to train or to validate on, and says which."""
        if not isinstance(self._loss, str) or self._loss == "mse":
            return
        highest = 1 if self._loss == "binary_cross_entropy" else (self._outputs[-1] or np.inf) - 1
        outside = ~((targets >= 0) & (targets <= highest))  # as is what is no number
        if not outside.any():
            return
        place = tuple(np.argwhere(outside)[0])
        found = (
            f"{self._call} gives target {targets[place]} in row {rows[place[0]]} of those to "
            f"{purpose} on"
        )
        if self._loss == "binary_cross_entropy":
            raise TrainingError(
                f"{found}, and loss binary_cross_entropy takes them from 0 to 1: let the data say "
                "whether it is so, or set loss to cross_entropy with an output for each class"
            )
        raise TrainingError(
            f"{found}, and the model tells {self._outputs[-1]} classes apart, counted from 0: "
            "number the classes in the data so, or give the model as many outputs"
        )


def _fits(given: tuple[int, ...], taken: tuple[int | None, ...]) -> bool:
    return len(given) == len(taken) and all(
        t in (None, g) for g, t in zip(given, taken, strict=True)
    )


def _told(shape: tuple[int | None, ...]) -> str:
    return f"[{', '.join(['rows', *map(str, shape)])}]"
