"""The contract of `Counter`."""

from __future__ import annotations

from collections.abc import Callable

from raymlops.coordination import Coordinator
from tests.coordination.places import Place
from tests.coordination.processes import Other, add_to_counter


def test_a_counter_starts_at_zero_and_takes_any_step(coordinator: Coordinator) -> None:
    counter = coordinator.counter("steps")
    assert counter.value() == 0
    assert [counter.add(), counter.add(41), counter.add(-2), counter.add(0)] == [1, 42, 40, 40]
    assert counter.add(10**30) == 10**30 + 40
    assert coordinator.counter("steps").value() == 10**30 + 40


def test_every_addition_of_four_processes_counts_once(
    place: Place, coordinator: Coordinator, start: Callable[..., Other]
) -> None:
    others = [start(add_to_counter, place, "steps", 25) for _ in range(4)]
    totals = sorted(total for other in others for total in other.hear())
    assert totals == list(range(1, 101))
    assert coordinator.counter("steps").value() == 100
