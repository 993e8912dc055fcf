"""Loads that hang are left, and hold up nothing else."""

from __future__ import annotations

import asyncio
import threading
import weakref
from collections.abc import Callable
from functools import partial

import pytest

from raymlops.errors import ModelError
from raymlops.serve.versions.attempts import Attempts
from tests.serve.coroutines import run, until


def test_work_is_answered_by_what_it_returns_or_raises() -> None:
    async def test() -> None:
        attempts = Attempts()
        assert await attempts.run("1.0.1", lambda: 3) == 3
        with pytest.raises(ZeroDivisionError):
            await attempts.run("1.0.1", lambda: 1 // 0)

    asyncio.run(test())


def test_nothing_is_kept_of_versions_that_were_loaded() -> None:
    async def test() -> None:
        attempts = Attempts()
        for number in range(20):
            await attempts.run(f"1.0.{number}", lambda: 3)
        assert not attempts._lost

    asyncio.run(test())


def test_work_that_hangs_keeps_no_other_thread_of_the_loop_waiting() -> None:
    """Six of a version that hung were all the threads that a replica on two processors had: keys
    that were revoked stayed good, and no version was loaded any more."""
    comes = threading.Event()

    async def test() -> None:
        attempts = Attempts()
        for _ in range(2):
            await _give_up(attempts, partial(comes.wait, 30.0))
        with pytest.raises(ModelError, match=r"^version 1\.0\.1 was given up 2 times"):
            await attempts.run("1.0.1", lambda: 3)
        assert await attempts.run("1.0.2", lambda: 4) == 4
        assert await asyncio.wait_for(asyncio.to_thread(lambda: 5), 10.0) == 5
        comes.set()
        await until(lambda: all(thread.name != "attempt" for thread in threading.enumerate()))
        assert await attempts.run("1.0.1", lambda: 3) == 3

    try:
        run(test)
    finally:
        comes.set()


def test_what_nobody_waits_for_any_more_is_let_go() -> None:
    comes, made = threading.Event(), list[weakref.ref[Attempts]]()

    def make() -> Attempts:
        comes.wait(30.0)
        made.append(weakref.ref(found := Attempts()))
        return found

    async def test() -> None:
        attempts = Attempts()
        left = [await _give_up(attempts, make)]
        comes.set()
        await until(lambda: made != [] and made[0]() is None)
        left.clear()

    run(test)


async def _give_up(attempts: Attempts, work: Callable[[], object]) -> asyncio.Task[object]:
    task = asyncio.create_task(attempts.run("1.0.1", work))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()
    return task
