from __future__ import annotations

import threading
from collections.abc import Sequence

import pytest

from raymlops.errors import RefusedError
from raymlops.monitor.group_commit import GroupCommit


def in_threads(calls: int, act: object) -> None:
    threads = [threading.Thread(target=act, args=(number,)) for number in range(calls)]  # type: ignore[arg-type]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=20)


def test_what_comes_while_one_commits_goes_together() -> None:
    groups: list[list[int]] = []
    first_runs, all_wait = threading.Event(), threading.Event()

    def commit(items: Sequence[int]) -> None:
        groups.append(list(items))
        if len(groups) == 1:
            first_runs.set()
            assert all_wait.wait(20)

    group = GroupCommit(commit)
    first = threading.Thread(target=group.add, args=(0,))
    first.start()
    assert first_runs.wait(20)
    others = [threading.Thread(target=group.add, args=(number,)) for number in (1, 2, 3)]
    for other in others:
        other.start()
    while len(group._waiting) < 3:
        pass
    all_wait.set()
    for thread in (first, *others):
        thread.join(timeout=20)
    assert groups[0] == [0]
    assert sorted(groups[1]) == [1, 2, 3]


def test_every_item_is_committed_once() -> None:
    seen: list[int] = []
    group = GroupCommit[int](seen.extend)
    in_threads(50, group.add)
    assert sorted(seen) == list(range(50))


def test_one_that_can_never_land_fails_alone() -> None:
    landed: list[int] = []
    first_runs, all_wait = threading.Event(), threading.Event()

    def commit(items: Sequence[int]) -> None:
        if not first_runs.is_set():
            first_runs.set()
            assert all_wait.wait(20)
        if 13 in items:
            raise RefusedError(f"13 of {sorted(items)}")
        landed.extend(items)

    group = GroupCommit(commit)
    raised: list[str] = []

    def add(number: int) -> None:
        try:
            group.add(number)
        except RefusedError as error:
            raised.append(str(error))

    threads = [threading.Thread(target=add, args=(number,)) for number in (0, 1, 13, 2)]
    threads[0].start()
    assert first_runs.wait(20)
    for thread in threads[1:]:
        thread.start()
    while len(group._waiting) < 3:
        pass
    all_wait.set()
    for thread in threads:
        thread.join(timeout=20)
    assert sorted(landed) == [0, 1, 2]
    assert raised == ["13 of [13]"]


def test_an_error_reaches_everybody_it_concerns_and_nobody_after() -> None:
    def commit(items: Sequence[int]) -> None:
        if 13 in items:
            raise ValueError("the disk is full")

    group = GroupCommit(commit)
    group.add(1)
    with pytest.raises(ValueError, match="the disk is full"):
        group.add(13)
    group.add(2)
