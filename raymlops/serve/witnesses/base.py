"""Who wants to know what became of requests: told after the answers, of many at once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from raymlops.serve.exchange import Exchange, Run, runs_of

_TOGETHER = 64  # told in a tenth of a millisecond
_PATIENCE_S = 0.01

Witness = Callable[[Sequence[Run]], None]
"""Is told of exchanges in the order of their answers; it must not block."""


class Witnesses:
    """Tells `witnesses` of several batches together, within 10 ms, between two turns of the event
    loop.

    So nobody waits for an answer while others are counted, and what the requests share is found
    once for all who are told, whose code runs hot. More together would be out of the caches.
    """

    def __init__(self, witnesses: Sequence[Witness]) -> None:
        self._witnesses = tuple(witnesses)
        self._untold: list[Exchange] = []
        self._timer: asyncio.TimerHandle | None = None

    def note(self, exchange: Exchange) -> None:
        self._untold.append(exchange)
        number = len(self._untold)
        if number == 1:
            self._timer = asyncio.get_running_loop().call_later(_PATIENCE_S, self.tell)
        elif number == _TOGETHER:
            asyncio.get_running_loop().call_soon(self.tell)

    def tell(self) -> None:
        """Tells what is not told yet."""
        if self._timer is not None:
            self._timer.cancel()
        runs, self._untold = runs_of(self._untold), []
        for witness in self._witnesses:
            witness(runs)
