"""What came true of a model's scores on rows it was not trained on, score by score."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from raymlops.data.bins import NumberBins

Vector = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Reliability:
    """By cell of the score's bins [cells]: how many rows had a score in it, how many of them were
    positive, and the sum of their scores. `error_rate` is the share of wrong decisions.

    Of a model of several classes the score is how sure it is of the one it says, and a row is
    positive where that came true; what it lost then depends on the others, so `loss_sums` has its
    log loss by cell."""

    edges: tuple[float, ...]
    rows: tuple[int, ...]
    positives: tuple[int, ...]
    score_sums: tuple[float, ...]
    error_rate: float
    loss_sums: tuple[float, ...] = ()

    @classmethod
    def of(
        cls,
        bins: NumberBins,
        scores: NDArray[Any],
        labels: NDArray[Any],
        *,
        threshold: float,
        losses: NDArray[Any] | None = None,
    ) -> Reliability:
        """That of `scores`, which say yes from `threshold` on, and 0/1 `labels`, both [rows], as
        are `losses`.

        Raises:
            ValueError: there is no row, or a score is no number.
        """
        scores = np.asarray(scores, dtype=np.float64)
        if scores.size == 0 or np.isnan(scores).any():
            missing = int(np.isnan(scores).sum())
            raise ValueError(f"{scores.size} scores, {missing} of them no numbers, tell nothing")
        positive = np.asarray(labels) > 0
        cells = np.searchsorted(bins.edges, scores, side="right")

        def by_cell(weights: NDArray[Any] | None) -> list[Any]:
            found: list[Any] = np.bincount(cells, weights, bins.num_cells).tolist()
            return found

        return cls(
            edges=bins.edges,
            rows=tuple(by_cell(None)),
            positives=tuple(np.bincount(cells[positive], minlength=bins.num_cells).tolist()),
            score_sums=tuple(by_cell(scores)),
            error_rate=float(((scores >= threshold) != positive).mean()),
            loss_sums=() if losses is None else tuple(by_cell(losses)),
        )

    def to_dict(self) -> dict[str, Any]:
        """Without losses as it always was."""
        values = asdict(self)
        if not self.loss_sums:
            del values["loss_sums"]
        return values

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Reliability:
        error_rate = values["error_rate"]
        lists = {name: tuple(value) for name, value in values.items() if name != "error_rate"}
        return cls(**lists, error_rate=error_rate)

    def cells_of(self, scores: NDArray[Any]) -> NDArray[np.int64]:
        """In which cell each of `scores` [rows] lies."""
        return np.searchsorted(self.edges, np.asarray(scores, dtype=np.float64), side="right")

    @cached_property
    def scores(self) -> Vector:
        """The mean score in each cell; where there was no row, that of its neighbours."""
        return self._filled(np.array(self.score_sums))

    @cached_property
    def losses(self) -> Vector | None:
        """The mean loss in each cell, likewise; None where no loss was kept."""
        return self._filled(np.array(self.loss_sums)) if self.loss_sums else None

    @cached_property
    def probabilities(self) -> Vector:
        """The probability of a positive in each cell, which no higher score makes smaller.

        B. Zadrozny, C. Elkan (2002), Transforming classifier scores into accurate multiclass
        probability estimates: isotonic regression, here over cells. One positive and one negative
        row are added to all, in proportion, so that nothing is ever taken as certain.
        """
        from scipy.optimize import isotonic_regression  # takes 0.2 s; others import us for less

        rows = np.array(self.rows, dtype=np.float64)
        known = rows > 0
        total = rows.sum()
        positives = (np.array(self.positives) + rows / total)[known]
        weights = rows[known] * (1.0 + 2.0 / total)
        fitted = isotonic_regression(positives / weights, weights=weights).x
        return self._spread(known, fitted)

    def _filled(self, sums: Vector) -> Vector:
        rows = np.array(self.rows, dtype=np.float64)
        known = rows > 0
        return self._spread(known, sums[known] / rows[known])

    def _spread(self, known: NDArray[np.bool_], values: Vector) -> Vector:
        cells = np.arange(len(self.rows))
        return np.asarray(np.interp(cells, cells[known], values), dtype=np.float64)
