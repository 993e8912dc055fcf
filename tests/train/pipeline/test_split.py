from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from raymlops.train.pipeline import BlockCost, split_by_cost, split_by_hand
from raymlops.train.pipeline.split import largest_part, partition

BLOCKS = ["embedding", "blocks.0", "blocks.1", "blocks.2", "head"]


def costs(seconds: list[float], sizes: list[int]) -> list[BlockCost]:
    return [
        BlockCost(name=f"b{n}", parameter_bytes=size, forward_s=s)
        for n, (s, size) in enumerate(zip(seconds, sizes, strict=True))
    ]


def brute_force(weights: list[float], num_parts: int) -> float:
    cuts = combinations(range(1, len(weights)), num_parts - 1)
    return min(largest_part(weights, (0, *cut)) for cut in cuts)


@pytest.mark.parametrize("seed", range(30))
def test_no_cut_has_a_lighter_heaviest_part(seed: int) -> None:
    rng = np.random.default_rng(seed)
    weights = rng.integers(0, 20, size=rng.integers(1, 11)).tolist()
    for num_parts in range(1, len(weights) + 1):
        starts = partition(weights, num_parts)
        assert len(starts) == num_parts
        assert list(starts) == sorted(set(starts))
        assert starts[0] == 0
        assert largest_part(weights, starts) == brute_force(weights, num_parts)


def test_the_slowest_stage_is_as_fast_as_can_be() -> None:
    assert split_by_cost(costs([3, 1, 2, 4, 1, 5], [1] * 6), 3) == ("b0", "b2", "b4")


def test_among_equally_fast_splits_the_largest_stage_is_smallest() -> None:
    # A slow first block: wherever the rest is cut, it is the slowest stage.
    blocks = costs([9, 1, 1, 1, 1], [1, 5, 1, 1, 5])
    assert split_by_cost(blocks, 3) == ("b0", "b1", "b3")


def test_a_stage_keeps_to_its_bytes() -> None:
    blocks = costs([1, 1, 1, 1], [1, 7, 1, 1])
    assert split_by_cost(blocks, 2) == ("b0", "b2")
    assert split_by_cost(blocks, 2, max_stage_bytes=9) == ("b0", "b2")
    assert split_by_cost(costs([1, 1, 1, 9], [4, 4, 4, 1]), 2, max_stage_bytes=9) == ("b0", "b2")


def test_bytes_that_no_split_keeps_to_are_refused_with_the_nearest() -> None:
    message = "no split into 2 stages keeps to 10 bytes of parameters a stage; the nearest needs 12"
    with pytest.raises(ValueError, match=message):
        split_by_cost(costs([1, 1, 1, 1], [8, 4, 4, 8]), 2, max_stage_bytes=10)


def test_more_stages_than_blocks_are_refused_with_both_numbers() -> None:
    message = "5 stages, but the model has 4 blocks that can be cut apart; nearest: 4 stages"
    with pytest.raises(ValueError, match=message):
        split_by_cost(costs([1] * 4, [1] * 4), 5)
    with pytest.raises(ValueError, match="num_stages is 0"):
        partition([1.0], 0)


def test_by_hand_the_first_stage_takes_what_comes_before() -> None:
    assert split_by_hand(BLOCKS, ["blocks.0", "blocks.2"]) == ("embedding", "blocks.2")


@pytest.mark.parametrize(
    ("starts", "message"),
    [
        (["blocks.0", "blocks.9"], r"no stage can begin at blocks\.9; the blocks are embedding, b"),
        (["blocks.2", "blocks.0"], "each once and in the model's order"),
        (["blocks.0", "blocks.0"], "each once"),
        ([], "stages begin at no block"),
    ],
)
def test_a_split_by_hand_that_cannot_be_is_refused(starts: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        split_by_hand(BLOCKS, starts)
