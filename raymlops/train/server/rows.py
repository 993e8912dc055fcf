"""Gradients of some rows of a table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Rows:
    """`values` [keys, width] of the rows `keys`, each once, in ascending order."""

    keys: NDArray[np.int64]
    values: NDArray[Any]


def sum_rows(keys: NDArray[np.int64], values: NDArray[Any]) -> Rows:
    """Each key once; the values of equal keys are added in the order in which they come."""
    order = np.argsort(keys, kind="stable")
    unique, starts = np.unique(keys[order], return_index=True)
    if len(unique) == len(keys):
        return Rows(keys[order], values[order])
    return Rows(unique, np.add.reduceat(values[order], starts, axis=0))


def mean_rows(pushed: Sequence[Rows]) -> Rows:
    """The mean of several gradients; rows that one of them lacks count as 0 there."""
    if len(pushed) == 1:
        return pushed[0]
    total = sum_rows(
        np.concatenate([rows.keys for rows in pushed]),
        np.concatenate([rows.values for rows in pushed]),
    )
    return Rows(total.keys, total.values / len(pushed))
