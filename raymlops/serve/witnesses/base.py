"""Who wants to know what became of requests: told after the answers, of many at once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from raymlops.serve.exchange import Exchange, Run, runs_of

Witness = Callable[[Sequence[Run]], None]
"""Is told of exchanges in the order of their answers; it must not block."""


class Witnesses:
    """Tells `witnesses` at the next turn of the event loop, when a batch is answered as a whole.

    So nobody waits for an answer while others are counted, and what the requests of a batch share
    is found once for all who are told.
    """

    def __init__(self, witnesses: Sequence[Witness]) -> None:
        self._witnesses = tuple(witnesses)
        self._untold: list[Exchange] = []

    def note(self, exchange: Exchange) -> None:
        if not self._untold:
            asyncio.get_running_loop().call_soon(self.tell)
        self._untold.append(exchange)

    def tell(self) -> None:
        """Tells what is not told yet."""
        runs, self._untold = runs_of(self._untold), []
        for witness in self._witnesses:
            witness(runs)
