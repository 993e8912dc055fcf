"""Calls to a named actor that may die, and come back, at any time."""

from __future__ import annotations

import asyncio
from typing import Any

from raymlops.cluster import find
from raymlops.errors import ClusterError


class ActorLink:
    """Finds the actor `name` again after every failure."""

    def __init__(self, name: str, *, timeout_s: float) -> None:
        self._name = name
        self._timeout_s = timeout_s
        self._handle: Any = None

    async def call(self, method: str, *args: Any) -> Any:
        """What the actor's `method` returned.

        Raises:
            ClusterError: there is no such actor, it died, raised or took too long; whether the
                call had an effect is unknown.
        """
        from ray.exceptions import RayError

        try:
            if self._handle is None:
                self._handle = await asyncio.to_thread(find, self._name)
            reference = getattr(self._handle, method).remote(*args)
            return await asyncio.wait_for(reference, self._timeout_s)
        except (RayError, TimeoutError) as error:
            self._handle = None
            raise ClusterError(f"actor {self._name}: {method} failed: {error!r}") from error
