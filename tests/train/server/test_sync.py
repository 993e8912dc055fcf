"""The modes decide right after every possible sequence of events of a small server."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import pytest

from raymlops.train.server import Asynchronous, Stale, Synchronous
from raymlops.train.server.sync import Progress, Sync

WORKERS = (0, 1, 2)
PUSHES_EACH = 2


@dataclass(frozen=True)
class World:
    """Workers that push, pull after each push, and die; written without looking at the modes."""

    clocks: tuple[int, ...] = (0, 0, 0)
    living: tuple[bool, ...] = (True, True, True)
    queued: tuple[int, ...] = ()
    pushed: tuple[int, ...] = (0, 0, 0)
    wants: tuple[bool, ...] = (False, False, False)
    updates: tuple[tuple[int, ...], ...] = field(default=(), compare=False)

    def progress(self) -> Progress:
        return Progress(
            clocks={worker: self.clocks[worker] for worker in WORKERS if self.living[worker]},
            waiting=tuple(dict.fromkeys(self.queued)),
            num_seen=len(WORKERS),
        )

    def events(self) -> Iterator[World]:
        """What workers may do next: push and pull, unless they wait, or die."""
        for worker in WORKERS:
            if not self.living[worker]:
                continue
            if not self.wants[worker] and self.pushed[worker] < PUSHES_EACH:
                yield replace(
                    self,
                    queued=(*self.queued, worker),
                    pushed=_changed(self.pushed, worker, self.pushed[worker] + 1),
                    wants=_changed(self.wants, worker, True),
                )
            yield replace(
                self,
                living=_changed(self.living, worker, False),
                queued=tuple(each for each in self.queued if each != worker),
                wants=_changed(self.wants, worker, False),
            )

    def settled(self, sync: Sync) -> World:
        """After the server has done all that it may."""
        world = self
        while workers := sync.next_update(world.progress()):
            queue, clocks = list(world.queued), list(world.clocks)
            for worker in workers:
                queue.remove(worker)
                clocks[worker] += 1
            world = replace(
                world,
                queued=tuple(queue),
                clocks=tuple(clocks),
                updates=(*world.updates, workers),
            )
        for worker in WORKERS:
            if world.wants[worker] and sync.may_pull(
                world.progress(), worker=worker, clock=world.pushed[worker]
            ):
                world = replace(world, wants=_changed(world.wants, worker, False))
        return world


def _changed(values: tuple, index: int, value: object) -> tuple:
    return (*values[:index], value, *values[index + 1 :])


def all_worlds(sync: Sync) -> set[World]:
    """Every state that can be reached, after the server settled in it."""
    seen: set[World] = set()
    open_worlds = [World().settled(sync)]
    while open_worlds:
        world = open_worlds.pop()
        if world not in seen:
            seen.add(world)
            open_worlds += [event.settled(sync) for event in world.events()]
    return seen


@pytest.mark.parametrize(
    "sync", [Synchronous(workers=3), Asynchronous(), Stale(bound=0), Stale(bound=1)]
)
def test_nobody_waits_for_the_dead_and_nobody_waits_for_ever(sync: Sync) -> None:
    worlds = all_worlds(sync)
    for world in worlds:
        waiting = {worker for worker in WORKERS if world.wants[worker]}
        living = {worker for worker in WORKERS if world.living[worker]}
        # Somebody can always go on, until all have pushed what they have to.
        free = living - waiting
        assert not living or free, world
        if waiting:
            slowest = min(world.pushed[worker] for worker in living)
            assert any(world.pushed[worker] == slowest for worker in free), world
    assert len(worlds) > 150


def test_without_waiting_every_worker_is_anywhere_dead_or_alive() -> None:
    assert len(all_worlds(Asynchronous())) == (2 * (PUSHES_EACH + 1)) ** len(WORKERS)


def test_a_round_takes_one_push_of_every_living_worker() -> None:
    for world in all_worlds(Synchronous(workers=3)):
        for workers in world.updates:
            assert workers == tuple(sorted(set(workers)))
        living = [worker for worker in WORKERS if world.living[worker]]
        assert len({world.clocks[worker] for worker in living}) <= 1


@pytest.mark.parametrize("bound", [0, 1])
def test_nobody_pulls_further_ahead_than_the_bound(bound: int) -> None:
    sync = Stale(bound=bound)
    for world in all_worlds(sync):
        living = [worker for worker in WORKERS if world.living[worker]]
        for worker in living:
            for other in living:
                if not world.wants[worker]:
                    assert world.clocks[other] >= world.pushed[worker] - bound


def test_the_first_round_waits_for_all_who_are_to_come() -> None:
    progress = Progress(clocks={0: 0, 1: 0}, waiting=(1, 0), num_seen=2)
    assert Synchronous(workers=3).next_update(progress) == ()
    assert Synchronous(workers=2).next_update(progress) == (0, 1)


def test_settings_that_make_no_sense_are_refused() -> None:
    with pytest.raises(ValueError, match="workers is 0"):
        Synchronous(workers=0)
    with pytest.raises(ValueError, match="bound is -1"):
        Stale(bound=-1)
