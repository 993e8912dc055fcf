from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import pytest

from raymlops.serve.caching import CachePolicy, Memoized, memoize


def test_equal_arguments_are_computed_once_however_they_are_passed() -> None:
    calls: list[float] = []

    @memoize()
    def scale(rows: np.ndarray, factor: float = 2.0) -> np.ndarray:
        """Scales."""
        calls.append(factor)
        return rows * factor

    rows = np.arange(3.0)
    for answer in (scale(rows), scale(rows=rows), scale(rows.copy(), factor=2.0)):
        assert answer.tolist() == [0.0, 2.0, 4.0]
    assert scale(rows, 3.0).tolist() == [0.0, 3.0, 6.0]
    assert calls == [2.0, 3.0]
    assert (scale.cache_stats.hits, scale.cache_stats.misses) == (2, 2)
    assert (scale.__name__, scale.__doc__) == ("scale", "Scales.")


def test_an_answer_can_be_changed_by_nobody() -> None:
    @memoize()
    def make(size: int) -> dict[str, np.ndarray]:
        return {"x": np.zeros(size)}

    with pytest.raises(ValueError, match="read-only"):
        make(2)["x"][0] = 1.0


def test_an_answer_shares_no_memory_with_its_arguments() -> None:
    class Ends(NamedTuple):
        first: np.ndarray
        rest: list[np.ndarray]

    @memoize()
    def ends(rows: np.ndarray) -> Ends:
        return Ends(rows[:1], [rows[1:]])

    rows = np.arange(3.0)
    ends(rows)
    rows[:] = 9.0  # once read-only, and else the answer to others
    first, (rest,) = again = ends(np.arange(3.0))
    assert ends.cache_stats.hits == 1
    assert isinstance(again, Ends)
    assert (first.tolist(), rest.tolist()) == ([0.0], [1.0, 2.0])


def test_what_a_caller_adds_to_an_answer_no_other_sees() -> None:
    @memoize()
    def look(number: int) -> tuple[list[int], dict[str, list[int]], set[int]]:
        return [number], {"x": [number]}, {number}

    for _ in range(3):
        numbers, named, seen = look(1)
        assert (numbers, named, seen) == ([1], {"x": [1]}, {1})
        numbers.append(2)
        named["x"].append(2)
        named["y"] = []
        seen.add(2)


def test_none_is_an_answer_and_an_error_is_not() -> None:
    calls: list[int] = []

    @memoize()
    def look(number: int) -> None:
        calls.append(number)
        if number < 0:
            raise KeyError(number)

    look(1)
    look(1)
    for _ in range(2):
        with pytest.raises(KeyError):
            look(-1)
    assert calls == [1, -1, -1]


def test_threads_that_miss_together_compute_once() -> None:
    gate, calls = threading.Event(), []

    @memoize()
    def slow(number: int) -> int:
        calls.append(number)
        assert gate.wait(10.0)
        return number + 1

    with ThreadPoolExecutor(8) as pool:
        answers = [pool.submit(slow, 1) for _ in range(8)]
        while slow.cache_stats.joined < 7:
            gate.wait(0.001)
        gate.set()
        assert [answer.result() for answer in answers] == [2] * 8
    assert calls == [1]


def test_time_runs_out() -> None:
    now, calls = [0.0], []
    policy = CachePolicy(ttl_s=5.0)
    look = Memoized(lambda x: calls.append(x), policy, clock=lambda: now[0])
    look(1)
    now[0] = 5.0
    look(1)
    assert calls == [1, 1]


def test_a_coroutine_is_refused() -> None:
    with pytest.raises(TypeError, match=r"look is a coroutine function; memoize the plain"):

        @memoize()
        async def look() -> None: ...
