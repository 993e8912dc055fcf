"""Calls to a named actor that may die, stand still and come back, at any time."""

from __future__ import annotations

import asyncio
from typing import Any

from raymlops.cluster import find
from raymlops.errors import ClusterError, RefusedError


class ActorLink:
    """Finds the actor `name` again after every failure.

    A call that took too long is still under way: the next one waits for it first. So however long
    an actor stands still, one call lies in its queue, and its arguments in this process.
    """

    def __init__(self, name: str, *, timeout_s: float) -> None:
        self._name = name
        self._timeout_s = timeout_s
        self._handle: Any = None
        self._unanswered: Any = None

    async def call(self, method: str, *args: Any) -> Any:
        """What the actor's `method` returned.

        Raises:
            ClusterError: there is no such actor, it died, raised or took too long; whether the
                call had an effect is unknown.
            RefusedError: the actor raised it.
        """
        from ray.exceptions import RayError, RayTaskError

        try:
            if self._unanswered is not None:
                await self._answer_to(self._unanswered)
            if self._handle is None:
                self._handle = await asyncio.to_thread(find, self._name)
            return await self._answer_to(getattr(self._handle, method).remote(*args))
        except (RayError, TimeoutError) as error:
            self._handle = None
            if isinstance(error, RayTaskError) and isinstance(error.cause, RefusedError):
                raise error.cause from error
            raise ClusterError(f"actor {self._name}: {method} failed: {error!r}") from error

    async def _answer_to(self, reference: Any) -> Any:
        self._unanswered = None
        try:
            return await asyncio.wait_for(reference, self._timeout_s)
        except TimeoutError:
            self._unanswered = reference
            raise
