"""An order of items against how relevant they were, query by query."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from raymlops.monitor.intervals import Clusters, Estimate, Vector, mean

FIRST = 10
"""How many of a query's items are looked at, the best scored ones."""


class Orders(NamedTuple):
    """How good the order of each query with a hit is, all [queries]: NDCG, average precision and
    recall of its first items, and the number of one of its `rows`."""

    ndcg: Vector
    precision: Vector
    recall: Vector
    rows: NDArray[np.int64]


def ranking(
    scores: Vector,
    relevance: Vector,
    queries: NDArray[np.int64],
    clusters: Clusters,
    *,
    k: int = FIRST,
) -> tuple[Estimate, ...]:
    """NDCG, average precision and recall of each query's `k` best scored items, mean over queries;
    see `orders` for the arguments.

    `ndcg_loss` is what NDCG lacks of 1, and `baseline_ndcg_loss` what it would lack on average if
    the order were left to chance. Where the whole interval of `ndcg_loss_over_baseline` lies above
    zero, chance would do better.
    """
    found = orders(scores, relevance, queries, k=k)
    chance = orders(np.zeros_like(scores), relevance, queries, k=k)
    groups = clusters[found.rows]
    over = chance.ndcg - found.ndcg
    return (
        mean("ndcg_loss", 1.0 - found.ndcg, groups),
        mean("baseline_ndcg_loss", 1.0 - chance.ndcg, groups),
        mean("ndcg_loss_over_baseline", over, groups, low=-math.inf, high=math.inf),
        mean(f"ndcg_at_{k}", found.ndcg, groups),
        mean(f"map_at_{k}", found.precision, groups),
        mean(f"recall_at_{k}", found.recall, groups),
    )


def orders(
    scores: Vector, relevance: Vector, queries: NDArray[np.int64], *, k: int = FIRST
) -> Orders:
    """Of each query, in the order of their numbers, how good the order by falling score is.

    All arguments are [rows], a row an item that was shown for a query. `relevance` is 0 where an
    item was of no use; NDCG takes it as gain (K. Järvelin, J. Kekäläinen, 2002), the others take
    what is above 0 as a hit. A query without any hit says nothing and is left out.

    Items of equal score count as if each of their orders had come as often as any other, so that a
    model which says the same of all is as good as chance (F. McSherry, M. Najork, 2008, Computing
    information retrieval performance measures efficiently in the presence of tied scores).

    Raises:
        ValueError: k is not positive.
    """
    if k < 1:
        raise ValueError(f"k is {k}; at least the best item is looked at")
    if not scores.size:
        return Orders(np.empty(0), np.empty(0), np.empty(0), np.empty(0, np.int64))
    order = np.lexsort((-scores, queries))
    query, score, gain = queries[order], scores[order], relevance[order]
    begins = np.r_[True, query[1:] != query[:-1]]
    of_query, of_tie = _Runs(begins), _Runs(begins | np.r_[True, score[1:] != score[:-1]])
    hits = (gain > 0).astype(np.float64)
    among = of_tie.sums(hits)  # of the items of one score
    share = among / of_tie.sizes
    rank = of_query.place
    weight = (rank <= k) / np.log2(rank + 1.0)
    # An item of a tie, where it is a hit, has as many hits of it before it as others would have.
    before = of_tie.first(np.cumsum(hits) - hits) - of_query.first(np.cumsum(hits) - hits)
    earlier = (of_tie.place - 1.0) * (among - 1.0) / np.maximum(of_tie.sizes - 1.0, 1.0)
    precision = (rank <= k) * share * (before + 1.0 + earlier) / rank
    best = gain[np.lexsort((-gain, query))]  # of each query, which stays where it is
    all_hits = np.add.reduceat(hits, of_query.starts)
    told = all_hits > 0
    sums = [
        np.add.reduceat(each, of_query.starts)[told]
        for each in (
            weight * of_tie.sums(gain) / of_tie.sizes,
            weight * best,
            precision,
            (rank <= k) * share,
        )
    ]
    return Orders(
        ndcg=sums[0] / sums[1],
        precision=sums[2] / np.minimum(all_hits[told], k),
        recall=sums[3] / all_hits[told],
        rows=order[of_query.starts[told]],
    )


class _Runs:
    """Neighbours that belong together, each run of which begins where `begins` [rows] says."""

    def __init__(self, begins: NDArray[np.bool_]) -> None:
        self.starts = np.flatnonzero(begins)
        self._run = np.cumsum(begins) - 1
        self.sizes = np.bincount(self._run).astype(np.float64)[self._run]
        self.place = np.arange(len(begins)) - self.starts[self._run] + 1.0
        """The place of each row in its run, from 1."""

    def sums(self, values: Vector) -> Vector:
        """Over its run, for each row."""
        summed: Vector = np.add.reduceat(values, self.starts)[self._run]
        return summed

    def first(self, values: Vector) -> Vector:
        """What the first row of its run has, for each row."""
        found: Vector = values[self.starts][self._run]
        return found
