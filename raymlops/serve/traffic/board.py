"""The board: where traffic tables are published, and where replicas say which they follow.

    publish(table) --> ledger --> wakes every wait()
    replica:  wait(following 3) ......... -> table 4, loads it, wait(following 4) ......
    applied(4): ............................................................ -> returns

One long poll carries both the table to a replica and its acknowledgement of the one before.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from raymlops.errors import ReleaseError, UnservableError
from raymlops.ledger import Version, fencing, open_ledger
from raymlops.ledger.fencing import Fence
from raymlops.serve.traffic.table import TrafficTable

BOARD = "raymlops-traffic-board"
POLL_S = 20.0
"""How long a poll waits for news. Each looks into the ledger first, so what was written there
alone is followed after no longer than that and its loading."""
LOADING_S = 600.0
"""How long a table is waited for while replicas say that they load what it names."""
RETRY_S = 0.5
"""How long a replica that cannot reach the board waits before it tries again."""

_logger = logging.getLogger(__name__)

# A board that has just been restarted knows of no replica until each had time to come back.
_SETTLE_S = 4 * RETRY_S
_TICK_S = 0.25


@dataclass(frozen=True, kw_only=True)
class Published:
    """A traffic table, as `TrafficTable.to_dict` gave it, and its number."""

    generation: int
    table: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Standing:
    """What a replica follows, the newer table it tried in vain, and the one whose versions it is
    loading; 0 is none."""

    replica: str
    generation: int = 0
    refused: int = 0
    reason: str = ""
    loading: int = 0

    @property
    def newest_known(self) -> int:
        """That it has loaded, or could not."""
        return max(self.generation, self.refused)

    @property
    def newest_heard(self) -> int:
        return max(self.newest_known, self.loading)


@dataclass(frozen=True, kw_only=True)
class Sighting:
    """A replica's standing at its latest poll, by the board's monotonic clock."""

    standing: Standing
    at: float

    def is_alive(self, now: float) -> bool:
        """Whether the next poll is not overdue."""
        return now - self.at < 1.5 * POLL_S


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """Which replicas follow a generation, are still `behind`, some of them `loading` it, or cannot
    follow it."""

    following: tuple[str, ...]
    behind: tuple[str, ...]
    loading: tuple[str, ...]
    refusals: tuple[str, ...]


def judge(sightings: Iterable[Sighting], generation: int, now: float) -> Verdict:
    """How far `generation` has come among the replicas seen in the last poll period."""
    alive = [seen.standing for seen in sightings if seen.is_alive(now)]
    return Verdict(
        following=tuple(each.replica for each in alive if each.generation >= generation),
        behind=tuple(each.replica for each in alive if each.newest_known < generation),
        loading=tuple(
            each.replica for each in alive if each.newest_known < generation <= each.loading
        ),
        refusals=tuple(
            f"{each.replica}: {each.reason}"
            for each in alive
            if each.generation < generation <= each.refused
        ),
    )


class TrafficBoard:
    """An actor without memory of its own: tables are in the ledger, and replicas poll again."""

    def __init__(self, ledger_url: str) -> None:
        self._ledger = open_ledger(ledger_url)
        self._newest: dict[str, Published] = {}
        self._seen: dict[str, dict[str, Sighting]] = {}
        self._changed = asyncio.Condition()
        self._born = time.monotonic()

    async def publish(
        self,
        model: str,
        table: Mapping[str, Any],
        fences: Sequence[Fence] = (),
        seen: Mapping[str, Any] | None = None,
    ) -> int:
        """Writes `table` to the ledger, wakes the replicas, and returns the table's generation.

        The write carries the `fences` of who asked for it, as it would had he written it himself.

        Raises:
            StaleLeaseError: a newer holder of one of these locks has written.
            ConflictError: another table was published since `seen` was, see `Releases.publish`.
            ValueError: the table is malformed.
            NotFoundError: it names a version the ledger does not hold.
        """
        checked = TrafficTable.from_dict(table)
        heard = self._heard(model)
        generation = await asyncio.to_thread(self._write, model, checked, fences, seen, heard)
        await self._learn(model, Published(generation=generation, table=table))
        return generation

    async def wait(self, model: str, standing: Standing) -> Published | None:
        """The newest table the replica has not heard of; None when there is none for `POLL_S`."""
        await self._sight(model, standing)
        # Told before the ledger is asked, which has all of it unless it was restored.
        published = await asyncio.to_thread(self._read, model, self._heard(model))
        if published is not None:
            await self._learn(model, published)
        try:
            async with asyncio.timeout(POLL_S), self._changed:
                await self._changed.wait_for(lambda: self._has_news(model, standing))
                return self._newest[model]
        except TimeoutError:
            return None

    async def leave(self, model: str, replica: str) -> None:
        """Forgets a replica that is shutting down."""
        async with self._changed:
            self._seen.get(model, {}).pop(replica, None)
            self._changed.notify_all()

    async def applied(self, model: str, generation: int, timeout_s: float) -> tuple[str, ...]:
        """The replicas that follow `generation`, once that is every one, and at least one.

        Raises:
            UnservableError: a replica cannot serve that table.
            ReleaseError: not all did within `timeout_s`, or `LOADING_S` where one is loading it.
        """
        began = time.monotonic()
        while True:
            now = time.monotonic()
            verdict = judge(self._seen.get(model, {}).values(), generation, now)
            if verdict.refusals:
                raise UnservableError(
                    f"table {generation} of {model} is refused: {'; '.join(verdict.refusals)}"
                )
            settled = now - self._born >= _SETTLE_S
            if settled and verdict.following and not verdict.behind:
                return verdict.following
            patience_s = max(timeout_s, LOADING_S) if verdict.loading else timeout_s
            if now >= began + patience_s:
                if not (verdict.following or verdict.behind):
                    raise ReleaseError(
                        f"no replica of {model} has come in {patience_s:g} s to follow table "
                        f"{generation}: `raymlops deploy {model}@champion` starts some"
                    )
                raise ReleaseError(
                    f"table {generation} of {model} is followed by {list(verdict.following)} and "
                    f"after {patience_s:g} s not yet by {list(verdict.behind)}"
                )
            await self._change(min(_TICK_S, began + patience_s - now))

    def _heard(self, model: str) -> int:
        """The latest table that anybody has heard of; of a ledger that was restored it may be one
        that is not there any more."""
        known = self._newest.get(model)
        seen = self._seen.get(model, {}).values()
        heard = [each.standing.newest_heard for each in seen]
        return max([*heard, 0 if known is None else known.generation])

    def _read(self, model: str, heard: int) -> Published | None:
        """The newest table, by a number that follows `heard`, if it is not that."""
        found = self._ledger.releases.published(model)
        if found is None:
            return None
        generation, table = found
        if generation < heard:
            _logger.warning(
                "table %d of %s was published, and the newest in the ledger is %d, as after it was "
                "restored: that is published again",
                heard,
                model,
                generation,
            )
            generation = self._ledger.releases.outnumber(model, heard) or generation
        return Published(generation=generation, table=table)

    def _write(
        self,
        model: str,
        table: TrafficTable,
        fences: Sequence[Fence],
        seen: Mapping[str, Any] | None,
        heard: int,
    ) -> int:
        """Returns a number that follows `heard`, or nobody would follow the table."""
        releases = self._ledger.releases
        for version in table.versions:
            self._ledger.registry.get(model, Version.parse(version))
        with fencing.carrying(self._ledger.url, *fences):
            generation = releases.publish(model, table.to_dict(), seen=seen)
            if generation <= heard:
                generation = releases.outnumber(model, heard) or generation
        return generation

    def _has_news(self, model: str, standing: Standing) -> bool:
        newest = self._newest.get(model)
        return newest is not None and newest.generation > standing.newest_heard

    async def _learn(self, model: str, published: Published) -> None:
        async with self._changed:
            known = self._newest.get(model)
            if known is None or published.generation > known.generation:
                self._newest[model] = published
                self._changed.notify_all()

    async def _sight(self, model: str, standing: Standing) -> None:
        async with self._changed:
            now = time.monotonic()
            seen = self._seen.get(model, {})
            self._seen[model] = {name: each for name, each in seen.items() if each.is_alive(now)}
            self._seen[model][standing.replica] = Sighting(standing=standing, at=now)
            self._changed.notify_all()

    async def _change(self, timeout_s: float) -> None:
        """Returns at the next change, or after `timeout_s`, since time passing is one too."""
        try:
            async with asyncio.timeout(timeout_s), self._changed:
                await self._changed.wait()
        except TimeoutError:
            pass
