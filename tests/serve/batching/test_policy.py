from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raymlops.serve.batching import Arrivals, BatchPolicy, EngineSpeed, close_after_s

POLICY = BatchPolicy(max_rows=8, max_wait_s=0.5)

times = st.floats(0.0, 10.0)


@pytest.mark.parametrize(
    ("num_rows", "age_s", "gap_s", "quiet_s", "wanted"),
    [
        (1, 0.0, 0.2, 0.0, 0.5),  # others come often: as long as it may
        (1, 0.25, 0.2, 0.0, 0.25),
        (1, 1.0, 0.2, 0.0, 0.0),
        (8, 0.0, 0.2, 0.0, 0.0),  # full
        (1, 0.0, 0.3, 0.0, 0.0),  # the next is not worth waiting for
        (1, 0.0, 0.01, 0.0, 0.03),  # three gaps
        (5, 0.1, 0.01, 0.02, 0.01),
        (5, 0.1, 0.01, 0.04, 0.0),  # the burst is over
    ],
)
def test_a_batch_waits_while_others_come(
    num_rows: int, age_s: float, gap_s: float, quiet_s: float, wanted: float
) -> None:
    found = close_after_s(POLICY, num_rows, age_s, gap_s=gap_s, quiet_s=quiet_s)
    assert found == pytest.approx(wanted)


@pytest.mark.parametrize(("engine_s", "wanted"), [(0.01, 0.001), (1.0, 0.03), (None, 0.03)])
def test_nobody_is_waited_for_longer_than_a_fuller_batch_would_save(
    engine_s: float | None, wanted: float
) -> None:
    found = close_after_s(POLICY, 1, 0.0, gap_s=0.01, quiet_s=0.0, engine_s=engine_s)
    assert found == pytest.approx(wanted)


@given(num_rows=st.integers(1, 20), age_s=times, gap_s=times, quiet_s=times)
def test_nobody_waits_longer_than_allowed_nor_in_a_full_batch(
    num_rows: int, age_s: float, gap_s: float, quiet_s: float
) -> None:
    wait_s = close_after_s(POLICY, num_rows, age_s, gap_s=gap_s, quiet_s=quiet_s)
    assert 0.0 <= wait_s <= max(0.0, POLICY.max_wait_s - age_s)
    assert num_rows < POLICY.max_rows or wait_s == 0.0


@given(gaps=st.lists(st.tuples(st.floats(1e-6, 1.0), st.booleans()), max_size=40))
def test_a_client_that_is_alone_twice_does_not_wait(gaps: list[tuple[float, bool]]) -> None:
    """Whatever came before, and however fast it asks again."""
    arrivals, now = Arrivals(POLICY.max_wait_s), 0.0
    for gap_s, alone in [*gaps, (1e-6, True), (1e-6, True)]:
        now += gap_s
        arrivals.note(now, alone=alone)
    assert close_after_s(POLICY, 1, 0.0, gap_s=arrivals.gap_s, quiet_s=0.0) == 0.0


@given(gap_s=st.floats(1e-6, 0.05), num=st.integers(20, 60))
def test_steady_arrivals_are_waited_for(gap_s: float, num: int) -> None:
    arrivals = Arrivals(POLICY.max_wait_s)
    for i in range(num):
        arrivals.note(i * gap_s, alone=i == 0)
    wait_s = close_after_s(POLICY, 1, 0.0, gap_s=arrivals.gap_s, quiet_s=0.0)
    assert wait_s >= min(POLICY.max_wait_s, 3 * gap_s)


@given(num_clients=st.integers(2, 8), engine_s=st.floats(0.001, 0.1))
def test_batches_fill_when_clients_ask_again_as_soon_as_they_are_answered(
    num_clients: int, engine_s: float
) -> None:
    """They come back one after the other, each a moment after the one before."""
    policy = BatchPolicy(max_rows=8, max_wait_s=0.01)
    arrivals, now, moment_s = Arrivals(policy.max_wait_s), 0.0, 0.0002
    sizes = []
    for _ in range(20):
        size = 0
        while size < num_clients:
            now += moment_s
            arrivals.note(now, alone=size == 0)
            size += 1
            if close_after_s(policy, size, size * moment_s, gap_s=arrivals.gap_s, quiet_s=0) == 0:
                break
        for _ in range(num_clients - size):  # the others find the engine at work
            arrivals.note(now, alone=False)
        sizes.append(size)
        now += engine_s
    assert sizes[-1] == num_clients


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"max_rows": 0}, "max_rows is 0"),
        ({"max_wait_s": -1.0}, "max_wait_s is -1.0"),
        ({"timeout_s": 0.0}, "timeout_s is 0.0"),
        ({"hang_after_s": math.nan}, "hang_after_s is nan"),
        ({"lengths": (16, 8)}, r"lengths is \[16, 8\]; they must rise"),
        ({"lengths": (0, 8)}, r"lengths is \[0, 8\]"),
        ({"max_tokens": 8}, "max_tokens is about padded rows: set lengths"),
        ({"cut_outputs": ("twice",)}, "cut_outputs is about padded rows: set lengths"),
        ({"pad_columns": ("tokens",)}, "pad_columns is about padded rows: set lengths"),
        ({"lengths": (8, 16), "max_tokens": 8}, "max_tokens is 8, less than one row of 16"),
        ({"max_rows": 10, "max_queue_rows": 9}, "no batch could ever be full"),
    ],
)
def test_an_impossible_policy_is_refused(settings: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        BatchPolicy(**settings)


def test_speed_is_foretold_from_the_warm_up_alone() -> None:
    speed = EngineSpeed({1: 0.001, 32: 0.002})
    assert speed.rows_per_s == 16_000
    speed.note(1, 5.0)  # it waited for the interpreter
    assert [speed.expected_s(rows) for rows in (1, 2, 32, 320)] == [0.001, 0.002, 0.002, 0.02]
    assert EngineSpeed().expected_s(1) is None
    assert EngineSpeed().rows_per_s is None


def test_the_rate_follows_the_traffic() -> None:
    speed = EngineSpeed({32: 0.001})
    for _ in range(200):
        speed.note(10, 0.1)
    assert speed.rows_per_s == pytest.approx(100.0)
