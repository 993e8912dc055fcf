"""A reference profile: how a model's inputs and scores were distributed when it was trained.

A profile lays every distribution out as cells of one integer vector:

    temp: (-inf,e0) [e0,e1) ... [ek,inf) missing | carrier: AA B6 ... other missing | score: ...

so that counting a window is one vector, and windows of any number of workers merge by addition,
bit for bit.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from raymlops.data.bins import Bins, CategoryBins, Counts, NumberBins, bins_of, quantile_bins
from raymlops.data.classes import Class, class_losses
from raymlops.data.error_cap import FAR_OFF_RATE, ErrorCap
from raymlops.data.features import Column, Columns, Feature
from raymlops.data.projections import Projection, read_by
from raymlops.data.reliability import Reliability

SCORE = "score"
"""The name under which a profile keeps the distribution of the model's own output."""

CONFIDENCE = "score confidence"
"""That of the probability of the class it says, where it tells several apart."""

OUTPUTS = (SCORE, CONFIDENCE)

# Below this many values a second thread costs more than it saves.
_MIN_VALUES_A_THREAD = 1 << 20


@dataclass(frozen=True, kw_only=True)
class Profile:
    """Bins for each feature and for the score, with the reference counts.

    `label_rate` and `loss` are the share of positives and the model's log loss on rows it was
    not trained on: what later months are held against. `reliability` tells what came true of the
    scores on those rows; None where nobody kept it.

    Of a model of several classes the score is the class it says, and its confidence has bins of its
    own; `class_rates` are their shares, in their order, and `label_rate` is the largest of these.

    Of a model that says numbers `label_rate` is their mean, `loss` the root mean squared error, NaN
    where nobody kept it, and nine of ten rows were off by no more than its `tolerance`. Beyond its
    `error_cap` errors are wild; None where nobody kept that, or it was never off.

    Of a model that ranks, `label_rate` is the mean relevance, and `loss` what its NDCG lacks of 1,
    mean over queries. All but a `far_off_rate` of these lacked no more than its `tolerance`: one of
    ten or less, as many lack the same.

    Of tensors, the `projections` have bins; `read` makes them of what the model is asked.
    """

    bins: tuple[Bins, ...]
    reference: tuple[int, ...]
    label_rate: float
    loss: float
    reliability: Reliability | None = None
    class_rates: tuple[float, ...] = ()
    tolerance: float | None = None
    far_off_rate: float = FAR_OFF_RATE
    is_ranking: bool = False
    error_cap: ErrorCap | None = None
    projections: tuple[Projection, ...] = ()

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
            quantile_bins(SCORE, scores.astype(np.float64)),
        )
        counts = _count(bins, columns, scores)
        return cls(
            bins=bins, reference=tuple(counts.tolist()), label_rate=label_rate, loss=log_loss
        )

    @classmethod
    def of_numbers(
        cls,
        features: Iterable[Feature],
        columns: Columns,
        scores: NDArray[np.float32],
        *,
        label_mean: float,
        errors: NDArray[np.floating],
    ) -> Profile:
        """The same of the numbers `scores` [rows]; `errors` [unseen rows] is by how much they were
        off on rows that it was not trained on."""
        rmse = math.sqrt(float(np.mean(np.square(errors, dtype=np.float64))))
        tolerance = float(np.quantile(np.abs(errors), 1.0 - FAR_OFF_RATE))
        found = cls.of(features, columns, scores, label_rate=float(label_mean), log_loss=rmse)
        return replace(found, tolerance=tolerance, error_cap=ErrorCap.of(errors))

    @classmethod
    def of_rankings(
        cls,
        features: Iterable[Feature],
        columns: Columns,
        scores: NDArray[np.float32],
        *,
        label_mean: float,
        losses: NDArray[np.floating],
    ) -> Profile:
        """The same of `scores` [rows] that order rows; `losses` [queries] are what the NDCG of
        unseen queries lacks of 1."""
        tolerance = float(np.quantile(losses, 1.0 - FAR_OFF_RATE))
        found = cls.of(
            features, columns, scores, label_rate=float(label_mean), log_loss=float(losses.mean())
        )
        far_off_rate = float((losses > tolerance).mean())
        return replace(found, tolerance=tolerance, far_off_rate=far_off_rate, is_ranking=True)

    @classmethod
    def of_classes(
        cls,
        features: Iterable[Feature],
        columns: Columns,
        scores: NDArray[np.float32],
        classes: Sequence[Class],
        *,
        class_rates: Sequence[float],
        log_loss: float,
    ) -> Profile:
        """The same with `scores` [rows, classes], the probabilities of `classes`."""
        bins = (
            *(bins_of(feature, columns[feature.name]) for feature in features),
            CategoryBins(name=SCORE, categories=tuple(map(str, classes))),
            quantile_bins(CONFIDENCE, scores.max(axis=1).astype(np.float64)),
        )
        return cls(
            bins=bins,
            reference=tuple(_count(bins, columns, scores).tolist()),
            label_rate=max(class_rates),
            loss=log_loss,
            class_rates=tuple(class_rates),
        )

    def with_reliability(
        self, scores: NDArray[Any], labels: NDArray[Any], *, threshold: float
    ) -> Profile:
        """The same profile with what came true, 0/1 `labels`, of `scores` on unseen rows."""
        bins = self.bins[-1]
        assert isinstance(bins, NumberBins), "the score is a number, and the last of the bins"
        return replace(self, reliability=Reliability.of(bins, scores, labels, threshold=threshold))

    def with_certainty(self, scores: NDArray[Any], labels: NDArray[np.int64]) -> Profile:
        """The same profile of classes with what came true, their numbers `labels`, of `scores`
        [rows, classes] on unseen rows: how often it was right, and what it lost, by how sure it
        was."""
        bins = self.bins[-1]
        assert isinstance(bins, NumberBins), "the confidence is a number, and the last of the bins"
        right = scores.argmax(axis=1) == labels
        losses = class_losses(scores, labels)
        found = Reliability.of(bins, scores.max(axis=1), right, threshold=0.0, losses=losses)
        return replace(self, reliability=found)

    @property
    def capped_loss(self) -> float:
        """What windows are held to: of numbers their RMSE without wild errors, where that is
        known."""
        return self.loss if self.error_cap is None else self.error_cap.rmse

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

    def read(self, columns: Columns) -> Columns:
        """`columns` with one value a row each: of tensors, the numbers that tell of them."""
        return read_by(self.projections, columns)

    def count(self, columns: Columns, scores: NDArray[np.float32]) -> Counts:
        """Rows by cell, given `scores` [rows] or [rows, classes], and columns as `read` gives them;
        those outside the profile are ignored."""
        return _count(self.bins, columns, scores)

    def counting(self, columns: Columns, scores: NDArray[np.float32]) -> Iterator[Counts]:
        """The parts of `count`, a column at a time."""
        columns = {**columns, **_outputs(self.bins, scores)}
        for each in self.bins:
            yield each.count(columns[each.name])

    def to_dict(self) -> dict[str, Any]:
        """Without classes, numbers, orders or tensors as it always was."""
        loss: dict[str, Any] = {"log_loss": self.loss}
        if self.is_ranking:
            loss = {
                "ndcg_loss": self.loss,
                "tolerance": self.tolerance,
                "far_off_rate": self.far_off_rate,
            }
        elif self.tolerance is not None:
            loss = {"rmse": self.loss, "tolerance": self.tolerance}
        if self.error_cap is not None:
            loss["error_cap"] = asdict(self.error_cap)
        return {
            "bins": [
                {"name": bins.name, "edges": [*map(_to_json, bins.edges)]}
                if isinstance(bins, NumberBins)
                else {"name": bins.name, "categories": bins.categories}
                for bins in self.bins
            ],
            "reference": self.reference,
            "label_rate": self.label_rate,
            **loss,
            "reliability": None if self.reliability is None else self.reliability.to_dict(),
            **({"class_rates": self.class_rates} if self.class_rates else {}),
            **({"projections": [*map(asdict, self.projections)]} if self.projections else {}),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Profile:
        bins = tuple(
            NumberBins(name=row["name"], edges=_from_json(row["edges"]))
            if "edges" in row
            else CategoryBins(name=row["name"], categories=tuple(row["categories"]))
            for row in values["bins"]
        )
        known = values.get("reliability")  # older bundles have none
        cap = values.get("error_cap")
        # Of numbers they have 0 for a log loss, which no model reaches.
        loss = next((values[name] for name in ("rmse", "ndcg_loss") if name in values), None)
        if loss is None:
            loss = values["log_loss"] or math.nan
        return cls(
            bins=bins,
            reference=tuple(values["reference"]),
            label_rate=values["label_rate"],
            loss=loss,
            reliability=None if known is None else Reliability.from_dict(known),
            class_rates=tuple(values.get("class_rates", ())),
            tolerance=values.get("tolerance"),
            far_off_rate=values.get("far_off_rate", FAR_OFF_RATE),
            is_ranking="ndcg_loss" in values,
            error_cap=None if cap is None else ErrorCap(**cap),
            projections=tuple(Projection(**row) for row in values.get("projections", ())),
        )


def _to_json(edge: float) -> float | str:
    """JSON has no infinite numbers: they are `inf` and `-inf`, which `float` reads."""
    return edge if math.isfinite(edge) else str(edge)


def _from_json(edges: Sequence[float | str | None]) -> tuple[float, ...]:
    """Older bundles have null where an edge is infinite, which only the outermost can be."""
    last = len(edges) - 1
    infinite = [math.inf if index == last else -math.inf for index in range(len(edges))]
    return tuple(
        instead if edge is None else float(edge)
        for edge, instead in zip(edges, infinite, strict=True)
    )


def _count(bins: tuple[Bins, ...], columns: Columns, scores: NDArray[np.float32]) -> Counts:
    """Column by column, large ones in as many threads as there are cores: numpy sorts in all."""
    columns = {**columns, **_outputs(bins, scores)}
    num_threads = min(os.cpu_count() or 1, len(bins) * len(scores) // _MIN_VALUES_A_THREAD)
    if num_threads < 2:
        return np.concatenate([each.count(columns[each.name]) for each in bins])
    with ThreadPoolExecutor(num_threads) as threads:
        return np.concatenate(list(threads.map(lambda each: each.count(columns[each.name]), bins)))


def _outputs(bins: tuple[Bins, ...], scores: NDArray[np.float32]) -> dict[str, Column]:
    """What is counted of `scores`: the numbers themselves, or which class is said and how sure."""
    if scores.ndim == 1:
        return {SCORE: scores.astype(np.float64)}
    said_in = next(each for each in bins if each.name == SCORE)
    assert isinstance(said_in, CategoryBins), "several scores a row are those of classes"
    confidence = scores.max(axis=1).astype(np.float64)  # NaN where any of them is
    said = np.array(said_in.categories, dtype=object)[scores.argmax(axis=1)]
    said[np.isnan(confidence)] = None
    return {SCORE: said, CONFIDENCE: confidence}
