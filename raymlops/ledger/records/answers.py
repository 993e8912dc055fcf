"""What was answered, and what came true of it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

NUMBERS = b"f"
"""Before numbers, so that four classes are not taken for one of them."""


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """One answered request: float32 `scores` [rows], in the order of the request's rows, or
    [rows, classes], row after row.

    `slices` are little-endian uint16 [1 + features to slice by, rows], a mark of which features
    these are and the cell of the version's reference profile that each row falls into; None where
    performance is not sliced.
    """

    request_id: str
    model: str
    version: str
    arm: str
    scores: bytes
    num_rows: int
    served_at: datetime
    event_time: datetime
    replica: str
    slices: bytes | None = None

    @property
    def width(self) -> int:
        """How many scores a row has."""
        return score_width(len(self.scores), self.num_rows)


def score_width(size_bytes: int, num_rows: int) -> int:
    """How many scores a row has, where those of all rows have so many bytes."""
    return max(1, size_bytes // (4 * max(1, num_rows)))


@dataclass(frozen=True, kw_only=True)
class Labels:
    """What came true for one request, `labels` [rows] in the request's row order: 0/1 as int8, or
    what `number_labels` makes of numbers, `class_labels` of classes."""

    request_id: str
    model: str
    labels: bytes
    at: datetime


def number_labels(values: NDArray[Any]) -> bytes:
    """The labels of a model that says numbers, `values` [rows]."""
    return NUMBERS + values.astype("<f4").tobytes()


CLASSES = b"c"
"""Before classes. They are told themselves and not by their number: versions of a model may know
others, or have them in another order, and which one answered need not be known yet."""


def class_labels(values: Sequence[str | int]) -> bytes:
    """The labels of a model that says one of several classes, `values` [rows]."""
    return CLASSES + json.dumps(list(values), ensure_ascii=False).encode()


def label_values(labels: bytes, num_rows: int) -> NDArray[Any] | None:
    """`labels` as int8 or float32, or classes as objects, [rows]; None when they are of another
    number of rows."""
    if labels[:1] == CLASSES:
        try:
            classes = np.array(json.loads(labels[1:]), dtype=object)
        except ValueError:
            return None
        return classes if classes.shape == (num_rows,) else None
    if labels[:1] == NUMBERS:
        numbers = labels[1:]
        return np.frombuffer(numbers, dtype="<f4") if len(numbers) == 4 * num_rows else None
    return np.frombuffer(labels, dtype=np.int8) if len(labels) == num_rows else None


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """A prediction whose labels have arrived: `scores` float32 and `labels` int8 or float32, both
    [rows]; of several classes the scores are [rows, classes], and the labels classes as objects.

    `slices` [1 + features to slice by, rows] are a mark of which features these are and cells of
    the version's profile; None is not sliced.
    """

    request_id: str
    version: str
    arm: str
    event_time: datetime
    scores: NDArray[np.float32]
    labels: NDArray[Any]
    slices: NDArray[np.uint16] | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcomes:
    """Requests whose labels have arrived, of one version in one arm, their rows one after the
    other: `scores`, `labels` and `slices` as an `Outcome` has them.

    Each request was of so many rows (`sizes`), and happened on that UTC day, counted from 1970
    (`days`); both int64 [requests].
    """

    version: str
    arm: str
    sizes: NDArray[np.int64]
    days: NDArray[np.int64]
    scores: NDArray[np.float32]
    labels: NDArray[Any]
    slices: NDArray[np.uint16] | None = None

    @property
    def request_of(self) -> NDArray[np.int64]:
        """The number of the request of each row, [rows]."""
        return np.repeat(np.arange(self.sizes.size), self.sizes)

    def only(self, inside: NDArray[np.bool_]) -> Outcomes:
        """The rows that are `inside`, [rows], and the requests that have any; without slices."""
        sizes = np.bincount(self.request_of[inside], minlength=self.sizes.size)
        return replace(
            self,
            sizes=sizes[sizes > 0],
            days=self.days[sizes > 0],
            scores=self.scores[inside],
            labels=self.labels[inside],
            slices=None,
        )


@dataclass(frozen=True, kw_only=True)
class Pane:
    """One arm's traffic of one UTC day of event time, as counts that merge by addition.

    `cells` [profile.num_cells] are rows by cell of the version's reference profile, `latency`
    answered requests by bucket, `num_failed` requests that ended in an error of the server.
    """

    model: str
    version: str
    arm: str
    day: date
    num_rows: int
    num_failed: int
    cells: NDArray[np.int64]
    latency: tuple[int, ...]

    def __getstate__(self) -> dict[str, Any]:
        """Between processes counts take as few bytes as they need: those of a thousand rows 2."""
        smallest = np.min_scalar_type(int(self.cells.max(initial=0)))
        return {**vars(self), "cells": self.cells.astype(smallest)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state, cells=state["cells"].astype(np.int64))

    def __add__(self, other: Pane) -> Pane:
        """Both panes' traffic; the identity stays that of the left one."""
        return replace(
            self,
            num_rows=self.num_rows + other.num_rows,
            num_failed=self.num_failed + other.num_failed,
            cells=self.cells + other.cells,
            latency=tuple(a + b for a, b in zip(self.latency, other.latency, strict=True)),
        )
