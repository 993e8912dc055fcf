"""A replica's loop: learn of new traffic tables from the board, and follow them."""

from __future__ import annotations

import asyncio
import logging
from asyncio import FIRST_COMPLETED
from dataclasses import replace
from functools import partial
from typing import Protocol

from raymlops.errors import ClusterError
from raymlops.ledger.patience import patiently_awaited
from raymlops.serve.traffic import TrafficTable
from raymlops.serve.traffic.board import RETRY_S, Published, Standing
from raymlops.serve.versions.arms import Arms

_logger = logging.getLogger(__name__)

_LEAVE_TIMEOUT_S = 2.0


class Board(Protocol):
    """What a replica needs of the board; calls raise ClusterError while it is away."""

    async def wait(self, standing: Standing) -> Published | None: ...

    async def leave(self, replica: str) -> None: ...


class Follower:
    """Keeps `arms` at the newest published table that can be loaded.

    While the board is away, what is loaded goes on serving. While a table is being loaded the board
    is asked for a newer one, which ends that: loading may hang, and a release that is rolled back
    must not wait for what it brought.
    """

    def __init__(self, arms: Arms, board: Board, replica: str) -> None:
        self._arms = arms
        self._board = board
        self._standing = Standing(replica=replica)
        self._refused: Published | None = None
        self._away = False

    async def start_with(self, published: Published) -> None:
        """Follows the first table, or raises what keeps it from being loaded."""
        await self._arms.apply(TrafficTable.from_dict(published.table))
        self._standing = replace(self._standing, generation=published.generation)

    def rest_at(self, published: Published) -> None:
        """Loads nothing yet; the table counts as followed, since it will be from when it is
        asked for."""
        self._arms.rest(TrafficTable.from_dict(published.table))
        self._standing = replace(self._standing, generation=published.generation)

    async def run(self) -> None:
        """Never returns; cancel it to stop."""
        loading: asyncio.Task[None] | None = None
        try:
            while True:
                poll = asyncio.create_task(self._poll())
                try:
                    await asyncio.wait(
                        {poll, loading} if loading else {poll}, return_when=FIRST_COMPLETED
                    )
                finally:
                    poll.cancel()
                if loading is not None and loading.done():
                    loading = None
                if not poll.done():  # the board has yet to hear what became of the table
                    continue
                # A quiet poll period is the time to try a refused table again: its store may be
                # back.
                attempt = poll.result() or (None if loading else self._refused)
                if attempt is None:
                    continue
                if attempt.generation == self._standing.loading:  # so a board of an earlier version
                    await asyncio.sleep(RETRY_S)
                    continue
                await self._give_up(loading)
                self._standing = replace(self._standing, loading=attempt.generation)
                loading = asyncio.create_task(self.follow(attempt))
        finally:
            await self._give_up(loading)

    async def _poll(self) -> Published | None:
        """What the board says, once it is there."""
        while True:
            try:
                published = await self._board.wait(self._standing)
            except ClusterError as error:
                if not self._away:
                    _logger.warning("the traffic board is away, its last table stays: %s", error)
                self._away = True
                await asyncio.sleep(RETRY_S)
            else:
                self._away = False
                return published

    async def _give_up(self, loading: asyncio.Task[None] | None) -> None:
        """Ends the loading of a table, if there is any; a thread that hangs in it is left."""
        if loading is not None and not loading.done():
            _logger.warning("table %d is given up while it is loaded", self._standing.loading)
            loading.cancel()
            await asyncio.wait({loading})

    async def follow(self, published: Published) -> None:
        """Applies a table; one that cannot be loaded changes nothing, and the board will hear."""
        try:
            await self._apply(published)
        except Exception as error:  # a broken version must not take down those that serve
            _logger.exception("table %d is refused, the one before stays", published.generation)
            self._refused = published
            self._standing = replace(
                self._standing,
                refused=published.generation,
                reason=f"{type(error).__name__}: {error}",
                loading=0,
            )
        else:
            self._refused = None
            self._standing = Standing(
                replica=self._standing.replica, generation=published.generation
            )

    async def _apply(self, published: Published) -> None:
        """A ledger or a store that is away says nothing of what is in the table: whoever published
        it would roll back a version that is well, so it counts as being loaded meanwhile."""
        apply = partial(self._arms.apply, TrafficTable.from_dict(published.table))
        await patiently_awaited(apply, waits=f"table {published.generation} is being loaded")

    async def leave(self) -> None:
        """Tells the board that nobody need wait for this replica; soon or not at all."""
        try:
            async with asyncio.timeout(_LEAVE_TIMEOUT_S):
                await self._board.leave(self._standing.replica)
        except (ClusterError, TimeoutError) as error:
            _logger.info("left without telling the traffic board, which is away: %s", error)
