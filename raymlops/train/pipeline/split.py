"""Where the stages of a chain begin: by cost, the largest stage as small as can be, or by hand.

    costs    3 1 | 2 4 | 1 5      3 stages, the slowest costs 6: no cut has a faster slowest one

A split is the name of each stage's first block. It is decided once and handed to every rank: two
ranks that measure for themselves may cut in different places.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

from raymlops.train.pipeline.costs import BlockCost


def split_by_cost(
    costs: Sequence[BlockCost], num_stages: int, *, max_stage_bytes: int | None = None
) -> tuple[str, ...]:
    """The split whose slowest stage is fastest; among those, whose largest stage is smallest.

    No stage holds more than `max_stage_bytes` of parameters.

    Raises:
        ValueError: there are fewer blocks than stages, or no split keeps to `max_stage_bytes`;
            says the nearest possible.
    """
    check_count(len(costs), num_stages)
    sizes_bytes = [cost.parameter_bytes for cost in costs]
    limit = float("inf") if max_stage_bytes is None else max_stage_bytes
    smallest = largest_part(sizes_bytes, partition(sizes_bytes, num_stages))
    if smallest > limit:
        raise ValueError(
            f"no split into {num_stages} stages keeps to {max_stage_bytes} bytes of parameters a "
            f"stage; the nearest needs {smallest:g}: use more stages or allow more"
        )
    times_s = [cost.forward_s for cost in costs]
    starts = partition(times_s, num_stages, also=sizes_bytes, limit=limit)
    slowest_s = largest_part(times_s, starts)
    starts = partition(sizes_bytes, num_stages, also=times_s, limit=slowest_s)
    return tuple(costs[start].name for start in starts)


def split_by_hand(blocks: Sequence[str], starts: Sequence[str]) -> tuple[str, ...]:
    """The split in which a stage begins at each of `starts`; the first takes what comes before.

    Raises:
        ValueError: a name is no block or out of order.
    """
    unknown = [name for name in starts if name not in blocks]
    if unknown:
        raise ValueError(
            f"no stage can begin at {', '.join(unknown)}; the blocks are {', '.join(blocks)}"
        )
    places = [blocks.index(name) for name in starts]
    if not places or places != sorted(set(places)):
        raise ValueError(
            f"stages begin at {', '.join(starts) or 'no block'}; name one block or more, each once "
            f"and in the model's order: {', '.join(blocks)}"
        )
    return (blocks[0], *starts[1:])


def partition(
    weights: Sequence[float],
    num_parts: int,
    *,
    also: Sequence[float] | None = None,
    limit: float = float("inf"),
) -> tuple[int, ...]:
    """Where each part begins when `weights` are cut so that the heaviest part is lightest.

    Exact, by dynamic programming over the last cut, in parts x weights^2 steps. Every part's sum of
    `also` stays within `limit`; of equal cuts the one with the earliest last cuts is taken.

    Raises:
        ValueError: there are fewer weights than parts, or every cut breaks the limit.
    """
    check_count(len(weights), num_parts)
    sums = list(accumulate(weights, initial=0.0))
    others = list(accumulate(also or [0.0] * len(weights), initial=0.0))
    tolerance = 1e-9 * max(1.0, others[-1])  # differences of sums round otherwise than sums
    # best[stop]: the lightest heaviest part of the first `stop` weights, and where its last began.
    best = [(0.0, 0)] + [(float("inf"), 0)] * len(weights)
    begins: list[list[int]] = []
    for part in range(num_parts):
        following = [(float("inf"), 0)] * len(best)
        for stop in range(part + 1, len(best)):
            choices = (
                (max(best[start][0], sums[stop] - sums[start]), start)
                for start in range(part, stop)
                if others[stop] - others[start] <= limit + tolerance
            )
            following[stop] = min(choices, default=(float("inf"), 0))
        best = following
        begins.append([start for _, start in best])
    if best[-1][0] == float("inf"):
        raise ValueError(f"no cut into {num_parts} parts keeps each part's sum within {limit:g}")
    starts = []
    stop = len(weights)
    for begin in reversed(begins):
        stop = begin[stop]
        starts.append(stop)
    return tuple(reversed(starts))


def largest_part(weights: Sequence[float], starts: Sequence[int]) -> float:
    """The sum of the heaviest part that `starts` cut."""
    stops = (*starts[1:], len(weights))
    return max(sum(weights[start:stop]) for start, stop in zip(starts, stops, strict=True))


def check_count(num_blocks: int, num_stages: int) -> None:
    """Refuses more stages than blocks.

    Raises:
        ValueError: with both numbers and the nearest possible.
    """
    if num_stages < 1:
        raise ValueError(f"num_stages is {num_stages}; a pipeline has at least one stage")
    if num_blocks < num_stages:
        raise ValueError(
            f"{num_stages} stages, but the model has {num_blocks} blocks that can be cut apart; "
            f"nearest: {num_blocks} stages (fewer ranks, or fewer stages a rank)"
        )
