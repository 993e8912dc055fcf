from __future__ import annotations

import math
from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from raymlops.serve.batching.bisection import isolate


class Counting:
    """Fails for every batch that holds a culprit."""

    def __init__(self, culprits: set[int]) -> None:
        self.culprits = culprits
        self.num_runs = 0

    def __call__(self, batch: Sequence[int]) -> list[int]:
        self.num_runs += 1
        if self.culprits & {*batch}:
            raise ZeroDivisionError
        return list(batch)


def answers(run: Counting, size: int) -> dict[int, int | None]:
    """What each item got; None is its failure."""
    found: dict[int, int | None] = {}
    for part, result in isolate(run, range(size)):
        for position, item in enumerate(part):
            assert item not in found
            found[item] = None if isinstance(result, Exception) else result[position]
    return found


@given(size=st.integers(1, 200), data=st.data())
def test_one_culprit_fails_alone_in_few_runs(size: int, data: st.DataObject) -> None:
    culprit = data.draw(st.integers(0, size - 1))
    run = Counting({culprit})
    assert answers(run, size) == {i: None if i == culprit else i for i in range(size)}
    assert run.num_runs <= 2 * math.ceil(math.log2(size)) + 1


@given(size=st.integers(1, 60), data=st.data())
def test_all_culprits_fail_and_nobody_else(size: int, data: st.DataObject) -> None:
    culprits = data.draw(st.sets(st.integers(0, size - 1)))
    run = Counting(culprits)
    assert answers(run, size) == {i: None if i in culprits else i for i in range(size)}
    assert run.num_runs <= 2 * size


def test_on_average_one_culprit_costs_three_runs_every_two_levels() -> None:
    total = 0
    for culprit in range(64):
        run = Counting({culprit})
        answers(run, 64)
        total += run.num_runs
    assert total / 64 == 1.5 * 6 + 1.5
