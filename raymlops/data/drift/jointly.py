"""Drift of columns together: a classifier that tries to tell reference from window.

Each column may be distributed as ever while their correlation has turned: every test of one
column is blind to that. If the rows come from one distribution nobody can tell them apart, and
the classifier is right half of the time; whatever makes it better is drift, of one column or of
several together.

    D. Lopez-Paz, M. Oquab (2017), Revisiting classifier two-sample tests
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri

from raymlops.data.drift.base import ALIKE, Reading
from raymlops.data.features import Column, Columns
from raymlops.data.grouped import num_rows

MAX_ROWS = 5_000
"""Rows of each side worth passing: beyond them the test finds what does not matter."""

JOINT_THRESHOLD = 0.1
"""An effect that still does not matter: 55 of 100 pairs told apart rightly."""

Matrix = NDArray[np.float64]

_MIN_ROWS = 100
_NUM_FOLDS = 2
_MAX_DIRECTIONS = 40  # so that their products, 820, stay far below the rows
_MAX_CATEGORIES = 6
_RIDGE = 0.1


def judge_jointly(reference: Columns, window: Columns) -> Reading:
    """How far rows of both can be told apart, and how likely that is where they are the same.

    The effect is 2 AUC - 1 on rows the classifier was not trained on: 0 is chance, 1 is certain.
    The classifier is linear in the columns' normal scores and in all their products, so it sees
    shifts, spreads and correlations of pairs; of more than 40 columns it sees 40 random mixtures.
    Both have the same columns.

    Half the rows train the classifier that judges the other half, and the other way around. Given
    the classifier the judged labels are exchangeable, so the Mann-Whitney p-value of each half
    holds; the smaller one, doubled, holds for both.
    """
    sizes = num_rows(reference), num_rows(window)
    if min(sizes) < _MIN_ROWS:
        return ALIKE
    rows = _products(_directions(_encoded(reference, window)))
    labels = np.repeat([False, True], sizes)
    fold = np.concatenate([_folds(size) for size in sizes])
    readings = [
        _told_apart(_scores(rows[fold != each], labels[fold != each], rows[fold == each]),
                    labels[fold == each])
        for each in range(_NUM_FOLDS)
    ]  # fmt: skip
    effect = max(0.0, float(np.mean([effect for effect, _ in readings])))
    return Reading(effect, min(1.0, _NUM_FOLDS * min(p_value for _, p_value in readings)))


def _folds(size: int) -> NDArray[np.int64]:
    """Random halves of a side, the same each time."""
    return np.random.default_rng(size).permutation(size) % _NUM_FOLDS


def _encoded(reference: Columns, window: Columns) -> Matrix:
    """Both sides' rows below each other, [rows, inputs], each input of mean 0 and variance 1."""
    inputs = [
        column
        for name in reference
        for column in _inputs(np.concatenate([reference[name], window[name]]))
    ]
    kept = [(each - each.mean()) / each.std() for each in inputs if each.std() > 0.0]
    return np.column_stack(kept) if kept else np.zeros((num_rows(reference) + num_rows(window), 0))


def _inputs(column: Column) -> Iterator[Matrix]:
    """Normal scores of numbers, indicators of the frequent categories, one of missing values."""
    if column.dtype == object:
        counted = Counter(column.tolist())
        for value, _ in counted.most_common(_MAX_CATEGORIES):
            yield np.array([each == value for each in column.tolist()], dtype=np.float64)
        return
    missing = np.isnan(column)
    known = ~missing
    scores = np.zeros(len(column))
    if known.any():
        scores[known] = ndtri((_ranks(column[known]) - 0.5) / known.sum())
    yield scores
    yield missing.astype(np.float64)


def _ranks(values: NDArray[Any]) -> NDArray[np.float64]:
    """From 1; equal values share the mean of theirs."""
    from scipy.stats import rankdata  # takes 0.4 s, and every process of raymlops imports us

    return rankdata(values)


def _directions(rows: Matrix) -> Matrix:
    if rows.shape[1] <= _MAX_DIRECTIONS:
        return rows
    random = np.random.default_rng(0).normal(size=(rows.shape[1], _MAX_DIRECTIONS))
    mixed: Matrix = rows @ random / np.sqrt(rows.shape[1])
    return mixed


def _products(rows: Matrix) -> Matrix:
    """The inputs, and the product of each with itself and every other, standardized."""
    left, right = np.triu_indices(rows.shape[1])
    products = np.concatenate([rows, rows[:, left] * rows[:, right]], axis=1)
    products -= products.mean(axis=0)
    spread = products.std(axis=0)
    wide: Matrix = products[:, spread > 1e-9] / spread[spread > 1e-9]
    return wide


def _scores(rows: Matrix, labels: NDArray[np.bool_], unseen: Matrix) -> Matrix:
    """How much each of the rows `unseen` looks like the window, by ridge regression."""
    target = labels - labels.mean()
    gram = rows.T @ rows
    gram[np.diag_indices_from(gram)] += _RIDGE * len(rows)
    scores: Matrix = unseen @ np.linalg.solve(gram, rows.T @ target)
    return scores


def _told_apart(scores: Matrix, labels: NDArray[np.bool_]) -> Reading:
    """2 AUC - 1 and the one-sided Mann-Whitney p-value, corrected for ties."""
    m, n = int((~labels).sum()), int(labels.sum())
    ranks = _ranks(scores)
    wins = float(ranks[labels].sum()) - n * (n + 1) / 2
    _, ties = np.unique(ranks, return_counts=True)
    total = m + n
    variance = m * n / 12 * (total + 1 - float((ties.astype(float) ** 3 - ties).sum())
                             / (total * (total - 1)))  # fmt: skip
    if variance <= 0.0:
        return ALIKE
    z = (wins - m * n / 2 - 0.5) / np.sqrt(variance)
    return Reading(2 * wins / (m * n) - 1, float(ndtr(-z)))
