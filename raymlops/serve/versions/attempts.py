"""Work that blocks and may hang: in threads of its own, of which few may be lost."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Future
from threading import Thread
from typing import Any, TypeVar

from raymlops.errors import ModelError

T = TypeVar("T")

_MAX_LOST = 2


class Attempts:
    """Runs the loading of versions.

    A thread that hangs cannot be ended. The handful of the event loop's own pool are what keys,
    deferred results and the next version need, too, and what the process would wait for at its end.
    """

    def __init__(self) -> None:
        self._lost: dict[str, list[Future[Any]]] = {}

    async def run(self, version: str, work: Callable[[], T]) -> T:
        """What `work` returns, or raises. Whoever is cancelled here leaves it to its thread.

        Raises:
            ModelError: so much work for that version was left, and has not come back.
        """
        lost = self._lost.get(version, [])
        if len(lost) >= _MAX_LOST:
            raise ModelError(
                f"version {version} was given up {len(lost)} times while it was loaded, and hangs "
                "there still: see what it waits for, and deploy anew, which starts new replicas"
            )
        attempt: Future[T] = Future()
        attempt.set_running_or_notify_cancel()  # from here on it is done when its thread is
        Thread(target=_attempt, args=(work, attempt), name="attempt", daemon=True).start()
        try:
            return await asyncio.wrap_future(attempt)
        except asyncio.CancelledError:
            lost = self._lost.setdefault(version, lost)
            lost.append(attempt)
            attempt.add_done_callback(lost.remove)
            del attempt  # a traceback would keep it, with a result that may hold processes
            raise


def _attempt(work: Callable[[], T], attempt: Future[T]) -> None:
    try:
        result = work()
    except BaseException as error:  # belongs to who waits for it
        attempt.set_exception(error)
    else:
        attempt.set_result(result)
