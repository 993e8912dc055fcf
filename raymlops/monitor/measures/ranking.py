"""An order of items against how relevant they were, query by query."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from raymlops.monitor.intervals import Clusters, Estimate, Vector, mean


def ranking(
    scores: Vector,
    relevance: Vector,
    queries: NDArray[np.int64],
    clusters: Clusters,
    *,
    k: int = 10,
) -> tuple[Estimate, ...]:
    """NDCG, average precision and recall of each query's `k` best scored items, mean over queries.

    All arguments are [rows], a row an item that was shown for a query. `relevance` is 0 where an
    item was of no use; NDCG takes it as gain (K. Järvelin, J. Kekäläinen, 2002), the others take
    what is above 0 as a hit. A query without any hit says nothing and is left out. Items of equal
    score are in the order of the rows.

    Raises:
        ValueError: k is not positive.
    """
    if k < 1:
        raise ValueError(f"k is {k}; at least the best item is looked at")
    order = np.lexsort((-scores, queries))  # stable: by query, then by falling score
    starts = np.flatnonzero(np.r_[True, np.diff(queries[order]) != 0]) if len(order) else order
    found = []
    for rows in np.split(order, starts[1:]):
        gains = relevance[rows]
        if gains.any():
            found.append((_ndcg(gains, k), _precision(gains, k), _recall(gains, k), rows[0]))
    table = np.array(found, dtype=np.float64).reshape(-1, 4)
    groups = clusters[table[:, 3].astype(np.int64)]
    names = (f"ndcg_at_{k}", f"map_at_{k}", f"recall_at_{k}")
    return tuple(mean(name, table[:, i], groups) for i, name in enumerate(names))


def _ndcg(gains: Vector, k: int) -> float:
    """Gains discounted by the logarithm of their rank, by what the best order would have had."""
    discounts = 1.0 / np.log2(np.arange(2, min(k, gains.size) + 2))
    best = np.sort(gains)[::-1][: discounts.size]
    return float(gains[: discounts.size] @ discounts / (best @ discounts))


def _precision(gains: Vector, k: int) -> float:
    """The mean, over the hits that could be among the first `k`, of the precision at each."""
    hits = gains[:k] > 0
    precisions = np.cumsum(hits) / np.arange(1, hits.size + 1)
    return float(precisions[hits].sum() / min(k, int((gains > 0).sum())))


def _recall(gains: Vector, k: int) -> float:
    return float((gains[:k] > 0).sum() / (gains > 0).sum())
