"""What ends hours of work waits some minutes for a ledger or a store that is away."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

from raymlops.errors import ClusterError, LedgerError, RaymlopsError, UnavailableError

Result = TypeVar("Result")

PATIENCE_S = 5 * 60.0
"""For a database that fails over, and a server that somebody restarts."""

_RETRY_S = 0.5

_logger = logging.getLogger(__name__)


def is_away(error: BaseException) -> bool:
    """Whether it says that ledger or store, or the way to them, are away, and nothing of what was
    asked for."""
    return isinstance(error, UnavailableError | ClusterError) or type(error) is LedgerError


class Patience:
    """That with one act: of its first failure that may pass it tells that the act `waits`."""

    def __init__(self, *, waits: str) -> None:
        self._waits = waits
        self._deadline = time.monotonic() + PATIENCE_S
        self._told = False

    def pause_s(self, error: RaymlopsError) -> float:
        """Seconds until the act that failed by `error` is due again.

        Raises:
            RaymlopsError: `error`, of another cause, or what is away has been so for `PATIENCE_S`.
        """
        if not is_away(error) or time.monotonic() > self._deadline:
            raise error
        if not self._told:
            _logger.warning(
                "%s, and waits up to %g minutes: %s", self._waits, PATIENCE_S / 60, error
            )
        self._told = True
        return _RETRY_S


def patiently(act: Callable[[], Result], *, waits: str) -> Result:
    """What `act` returns, which is called again while ledger or store, or the way to them, are
    away; `waits` is told once.

    What was written by an act whose answer was lost is there when it is called again.

    Raises:
        RaymlopsError: of another cause, or they have been away for `PATIENCE_S`.
    """
    patience = Patience(waits=waits)
    while True:
        try:
            return act()
        except RaymlopsError as error:
            time.sleep(patience.pause_s(error))


async def patiently_awaited(act: Callable[[], Awaitable[Result]], *, waits: str) -> Result:
    """As `patiently`, of what is awaited: who cancels it ends the waiting."""
    patience = Patience(waits=waits)
    while True:
        try:
            return await act()
        except RaymlopsError as error:
            pause_s = patience.pause_s(error)
        await asyncio.sleep(pause_s)
