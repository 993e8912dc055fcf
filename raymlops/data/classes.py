"""The classes that a model tells apart: names, or whole numbers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from raymlops.errors import DataError

Class = str | int

UNKNOWN = -1
"""The number of what is none of the classes."""

_EPSILON = float(np.finfo(np.float32).eps)  # a certain and wrong prediction costs 16, not infinity
_MAX_CLASSES = 256  # of each row that is served all probabilities are kept, 4 bytes a class


def plain_classes(classes: Iterable[Any]) -> tuple[Any, ...]:
    """The same as Python has them: scikit-learn's `classes_` are numpy's texts and numbers."""
    return tuple(np.asarray(each).item() for each in classes)


def check_classes(classes: Sequence[Class]) -> None:
    """Returns quietly when a model can tell these apart: several, all names or all whole numbers.

    Raises:
        ValueError: says which of them is in the way.
    """
    if not 2 <= len(classes) <= _MAX_CLASSES:
        raise ValueError(f"there are {len(classes)} classes; give 2 to {_MAX_CLASSES}")
    first = type(classes[0])
    if first not in (str, int):
        raise ValueError(f"class {classes[0]!r} is no name and no whole number")
    if odd := [each for each in classes if type(each) is not first]:
        raise ValueError(f"classes {classes[0]!r} and {odd[0]!r} are not of one type; give one")
    if doubled := [each for each in classes if classes.count(each) > 1]:
        raise ValueError(f"class {doubled[0]!r} is given twice")
    if first is int and (large := [each for each in classes if abs(int(each)) >= 2**53]):
        raise ValueError(f"class {large[0]} is beyond 2**53, where numbers are no longer exact")


def read_classes(column: pa.ChunkedArray, like: Class, *, name: str) -> NDArray[np.object_]:
    """A column of classes that are texts or whole numbers, as `like` is one: None where missing.

    Raises:
        DataError: it is of another type.
    """
    wanted = pa.string() if isinstance(like, str) else pa.int64()
    try:
        return np.array(column.cast(wanted).to_pylist(), dtype=object)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        kind = "names" if isinstance(like, str) else "whole numbers"
        raise DataError(
            f"column '{name}' is {column.type}, the classes are {kind} such as {like!r}: {error}"
        ) from error


def class_numbers(values: NDArray[Any], classes: Sequence[Class]) -> NDArray[np.int64]:
    """Which of `classes` each of `values` [rows] is, counted from 0; `UNKNOWN` where none."""
    numbers = _numbers(tuple(classes))
    return np.array([numbers.get(each, UNKNOWN) for each in values.tolist()], dtype=np.int64)


@lru_cache(maxsize=64)
def _numbers(classes: tuple[Class, ...]) -> dict[Class, int]:
    return {each: number for number, each in enumerate(classes)}


def class_losses(probabilities: NDArray[Any], numbers: NDArray[np.int64]) -> NDArray[np.float64]:
    """The log loss of each row in nats: `probabilities` [rows, classes] of what came true,
    `numbers` [rows]. What is `UNKNOWN` was taken as impossible."""
    of_true = probabilities[np.arange(len(numbers)), numbers].astype(np.float64)
    p = np.where(numbers == UNKNOWN, 0.0, of_true)
    losses: NDArray[np.float64] = -np.log(np.clip(p, _EPSILON, 1.0 - _EPSILON))
    return losses
