"""Random numbers of Python and numpy, as models draw them."""

from __future__ import annotations

import random

import numpy as np

from raymlops.errors import UnavailableError
from raymlops.storage.retry import Attempts, RetryPolicy
from raymlops.train.generators import kept, seed_others, set_states, states


def drawn() -> list[float]:
    """An odd number of normal ones, each pair of which is drawn at once."""
    return [random.gauss(0, 1), random.random(), float(np.random.normal())]  # noqa: NPY002


def test_what_was_kept_is_drawn_again() -> None:
    with kept():
        seed_others(7)
        drawn()  # leaves a normal number over in both
        held = states()
        expected = [drawn(), drawn()]
        set_states(held)
        assert [drawn(), drawn()] == expected


def test_a_seed_decides_what_is_drawn() -> None:
    with kept():
        seed_others(7 + (1 << 32))
        first = drawn()
        seed_others(7 + (1 << 32))
        assert drawn() == first


def test_waits_of_a_store_draw_nothing_of_a_model() -> None:
    """After a store had been away for a moment, a model went on with other numbers."""
    with kept():
        before = states()
        policy = RetryPolicy(first_wait_s=0, longest_wait_s=0)
        Attempts(policy, sleep=lambda _: None).wait_after(UnavailableError("away"))
        assert all(np.array_equal(before[name], found) for name, found in states().items())


def test_nothing_is_put_back_that_is_not_there() -> None:
    with kept():
        seed_others(7)
        set_states({})
        first = drawn()
        seed_others(7)
        assert drawn() == first
