"""A reference profile: how a model's inputs and scores were distributed when it was trained.

A profile lays every distribution out as cells of one integer vector:

    temp: (-inf,e0) [e0,e1) ... [ek,inf) missing | carrier: AA B6 ... other missing | score: ...

so that counting a window is one vector, and windows of any number of workers merge by addition,
bit for bit.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from raymlops.data.features import Column, Columns, Feature

Counts = NDArray[np.int64]
"""Rows by cell, [profile.num_cells]; counts of disjoint windows add up to that of their union."""

SCORE = "score"
"""The name under which a profile keeps the distribution of the model's own output."""

_MAX_BINS = 256
_MAX_CATEGORIES = 512


@dataclass(frozen=True, kw_only=True)
class NumberBins:
    """Quantile bins [e_i, e_i+1) with unique edges, then a cell for missing values."""

    name: str
    edges: tuple[float, ...]

    @property
    def num_cells(self) -> int:
        return len(self.edges) + 2

    @cached_property
    def _edges(self) -> NDArray[np.float64]:
        return np.asarray(self.edges)

    def count(self, column: Column) -> Counts:
        values = np.asarray(column, dtype=np.float64)
        missing = np.isnan(values)
        cells = np.searchsorted(self._edges, values, side="right")
        cells[missing] = self.num_cells - 1
        return np.bincount(cells, minlength=self.num_cells)


@dataclass(frozen=True, kw_only=True)
class CategoryBins:
    """A cell for each known category, then one for other and one for missing values."""

    name: str
    categories: tuple[str, ...]

    @property
    def num_cells(self) -> int:
        return len(self.categories) + 2

    @cached_property
    def _cell_of(self) -> dict[str | None, int]:
        cells: dict[str | None, int] = {name: cell for cell, name in enumerate(self.categories)}
        cells[None] = len(self.categories) + 1
        return cells

    def count(self, column: Column) -> Counts:
        other = len(self.categories)
        cells = np.fromiter(
            (self._cell_of.get(value, other) for value in column), np.int64, len(column)
        )
        return np.bincount(cells, minlength=self.num_cells)


Bins = NumberBins | CategoryBins


@dataclass(frozen=True, kw_only=True)
class Profile:
    """Bins for each feature and for the score, with the reference counts.

    `label_rate` and `log_loss` are the share of positives and the model's loss on rows it was
    not trained on: what later months are held against.
    """

    bins: tuple[Bins, ...]
    reference: tuple[int, ...]
    label_rate: float
    log_loss: float

    @classmethod
    def of(
        cls,
        features: Iterable[Feature],
        columns: Columns,
        scores: NDArray[np.float32],
        *,
        label_rate: float,
        log_loss: float,
    ) -> Profile:
        """The profile of training `columns` and the model's `scores` [rows] on them."""
        bins = (
            *(bins_of(feature, columns[feature.name]) for feature in features),
            _quantile_bins(SCORE, scores.astype(np.float64)),
        )
        counts = _count(bins, columns, scores)
        return cls(
            bins=bins, reference=tuple(counts.tolist()), label_rate=label_rate, log_loss=log_loss
        )

    @property
    def num_cells(self) -> int:
        return len(self.reference)

    @cached_property
    def cells(self) -> Mapping[str, slice]:
        """Where each feature's cells lie in a count vector, in order."""
        ends = np.cumsum([bins.num_cells for bins in self.bins]).tolist()
        return {
            bins.name: slice(end - bins.num_cells, end)
            for bins, end in zip(self.bins, ends, strict=True)
        }

    def count(self, columns: Columns, scores: NDArray[np.float32]) -> Counts:
        """Rows by cell; columns outside the profile are ignored."""
        return _count(self.bins, columns, scores)

    def to_dict(self) -> dict[str, Any]:
        return {
            "bins": [
                {"name": bins.name, "edges": bins.edges}
                if isinstance(bins, NumberBins)
                else {"name": bins.name, "categories": bins.categories}
                for bins in self.bins
            ],
            "reference": self.reference,
            "label_rate": self.label_rate,
            "log_loss": self.log_loss,
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Profile:
        bins = tuple(
            NumberBins(name=row["name"], edges=tuple(row["edges"]))
            if "edges" in row
            else CategoryBins(name=row["name"], categories=tuple(row["categories"]))
            for row in values["bins"]
        )
        return cls(
            bins=bins,
            reference=tuple(values["reference"]),
            label_rate=values["label_rate"],
            log_loss=values["log_loss"],
        )


def _count(bins: tuple[Bins, ...], columns: Columns, scores: NDArray[np.float32]) -> Counts:
    columns = {**columns, SCORE: scores.astype(np.float64)}
    return np.concatenate([each.count(columns[each.name]) for each in bins])


def bins_of(feature: Feature, column: Column) -> Bins:
    """The bins in which a reference `column` [rows] and whatever is held against it are counted."""
    if feature.kind == "number":
        return _quantile_bins(feature.name, np.asarray(column, dtype=np.float64))
    names, counts = np.unique([value for value in column if value is not None], return_counts=True)
    frequent = np.argsort(-counts, kind="stable")[:_MAX_CATEGORIES]
    return CategoryBins(name=feature.name, categories=tuple(str(names[i]) for i in frequent))


def _quantile_bins(name: str, values: NDArray[np.float64]) -> NumberBins:
    known = values[~np.isnan(values)]
    if known.size == 0:
        return NumberBins(name=name, edges=())
    quantiles = np.quantile(known, np.arange(1, _MAX_BINS) / _MAX_BINS, method="inverted_cdf")
    # What lies above all that was seen has a cell of its own; a constant could rise unnoticed.
    with np.errstate(over="ignore"):  # above the largest float there is infinity, rightly
        edges = np.unique([*quantiles, np.nextafter(known.max(), np.inf)])
    return NumberBins(name=name, edges=tuple(edges.tolist()))
