"""The versions a replica has loaded, and the traffic table it follows."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial

from raymlops.errors import ModelError, RequestError
from raymlops.models import Bundle
from raymlops.serve.batching import BatchPolicy, Outputs
from raymlops.serve.caching import CachePolicy, LruCache
from raymlops.serve.caching.predictions import Key
from raymlops.serve.engines import EngineSettings
from raymlops.serve.form import Form
from raymlops.serve.process import memory
from raymlops.serve.traffic import TrafficTable
from raymlops.serve.versions.attempts import Attempts
from raymlops.serve.versions.loaded import LoadedVersion, Loader, Preparer
from raymlops.serve.versions.swapping import SwapPolicy, expected_bytes, shortage
from raymlops.telemetry import Series, catalogue

_logger = logging.getLogger(__name__)

PINNED = "pinned"
"""The arm of requests that name a version: they are no sample of the traffic that is split."""

_REPLACED_IN_S = 5.0
"""What a client is told who comes while a version is loaded that does not fit beside the old."""


class Arms:
    """What a replica serves now: one table, with every version of it loaded.

    Picking a version and submitting to its batcher happen in one step of the event loop, so a
    version that is replaced has every request it was picked for in its queue, and answers them.
    Arms that are parked hold a table and no version, until they are woken.
    """

    def __init__(
        self,
        load: Loader,
        policy: BatchPolicy,
        engine: EngineSettings | None = None,
        *,
        cache: CachePolicy | None = None,
        swap: SwapPolicy | None = None,
        discreet: bool = False,
        free_bytes: Callable[[], int] = memory.free_bytes,
    ) -> None:
        self._load = load
        self._engine = engine or EngineSettings()
        self._swap = swap or SwapPolicy()
        self._free_bytes = free_bytes
        self.answers: LruCache[Key, Outputs] | None = None if cache is None else LruCache(cache)
        self._attempts = Attempts()
        self._preparer = Preparer(
            policy, self._engine, self.answers, self._attempts, discreet=discreet
        )
        self._table: TrafficTable | None = None
        self._loaded: dict[str, LoadedVersion] = {}
        self.likely_form: Form | None = None
        """That of the version which answers most requests, as its arm is named first."""
        self._is_parked = False
        self._changing = asyncio.Lock()
        self._retiring: set[asyncio.Task[None]] = set()

    def series(self, model: str) -> tuple[Series, ...]:
        """What its versions can tell of themselves, as metrics of `model`."""
        loaded = self._loaded.values()
        series = [Series(catalogue.IN_FLIGHT.name, (model,), self.num_in_work)]
        for each in loaded:
            labels, sizes = (model, each.version), each.batcher.sizes
            series += (
                Series(catalogue.QUEUED_ROWS.name, labels, each.batcher.num_waiting_rows),
                Series(catalogue.MODEL_LOAD.name, labels, each.load_s),
                Series(catalogue.BATCH_ROWS.name, labels, sizes.num_rows, tuple(sizes.buckets)),
            )
        return tuple(series)

    @property
    def num_in_work(self) -> int:
        """Requests that wait or run, of all versions."""
        return sum(each.batcher.num_unanswered for each in self._loaded.values())

    @property
    def versions(self) -> tuple[str, ...]:
        return tuple(self._loaded)

    @property
    def named(self) -> tuple[str, ...]:
        """The versions its table names, also while it is parked and has none loaded."""
        return () if self._table is None else tuple(self._table.versions)

    @property
    def rows_per_s(self) -> float:
        """Of the slowest version that is loaded, by all instances; 1 where nothing is known."""
        rates = [each.batcher.speed.rows_per_s for each in self._loaded.values()]
        known = [rate for rate in rates if rate]
        return min(known) * self._engine.num_instances if known else 1.0

    @property
    def size_bytes(self) -> int:
        """Of the files of the versions that are loaded."""
        return sum(each.footprint.size_bytes for each in self._loaded.values())

    async def apply(self, table: TrafficTable) -> None:
        """Follows `table` from when all of its versions are loaded and warm.

        Whatever is raised while one is being loaded, the old table stays in force. Parked ones
        load the versions to see that they can, and let them go.
        """
        async with self._changing:
            await self._apply(table)
            if self._is_parked:
                self._let_go()

    def rest(self, table: TrafficTable) -> None:
        """Is parked from the beginning, to follow `table` once it is woken."""
        self._table, self._is_parked = table, True

    async def wake(self) -> None:
        """Loads what the table names; parked again when that raises."""
        async with self._changing:
            assert self._table is not None
            await self._apply(self._table)
            self._is_parked = False

    async def park(self) -> None:
        """Lets every version go, once it has answered what it was asked."""
        async with self._changing:
            self._is_parked = True
            self._let_go()

    async def _apply(self, table: TrafficTable) -> None:
        try:
            fresh = await self._load_fresh(table)
        except Exception:
            await self._restore()
            raise
        known = self._loaded | fresh
        replaced = self._replaced_by(table).values()
        self._hold({version: known[version] for version in table.versions})
        self._table = table
        for old in replaced:
            self._retire(old)

    async def _load_fresh(self, table: TrafficTable) -> dict[str, LoadedVersion]:
        """The versions that `table` brings, all of them or none."""
        fresh: dict[str, LoadedVersion] = {}
        try:
            for version in table.versions:
                if version not in self._loaded:
                    began = time.monotonic()
                    bundle = await self._attempts.run(version, partial(self._load, version))
                    if self._loaded or fresh:
                        await self._make_room(version, bundle, table, beside=fresh)
                    loaded = await self._preparer.prepare(version, bundle)
                    fresh[version] = replace(loaded, load_s=time.monotonic() - began)
        except BaseException:
            for each in fresh.values():
                self._retire(each)
            raise
        return fresh

    def of_key(self, key: str) -> tuple[str, LoadedVersion]:
        """The arm that `key` belongs to, and the version that answers it.

        Raises:
            RequestError: 503 before the first table.
        """
        if self._table is None:
            raise RequestError(503, "no version is loaded yet; try again")
        arm = self._table.arm_of(key)
        loaded = self._loaded.get(arm.version)
        if loaded is None:
            raise RequestError(
                503, f"version {arm.version} is being replaced; try again", _REPLACED_IN_S
            )
        return arm.name, loaded

    def of_version(self, version: str) -> tuple[str, LoadedVersion]:
        """Raises RequestError, 404, when `version` is not loaded."""
        if version not in self._loaded:
            held = ", ".join(self._loaded) or "none"
            raise RequestError(404, f"version {version} is not loaded; there are: {held}")
        return PINNED, self._loaded[version]

    def check_health(self) -> None:
        """Raises RuntimeError when an engine hangs."""
        for version in self._loaded.values():
            version.check_health()

    def version_of(self, arm: str) -> str:
        """The version that answers the arm's requests, which name it by that label.

        Raises:
            RequestError: 404 when there is no such arm.
        """
        arms = () if self._table is None else self._table.arms
        for each in arms:
            if each.name == arm:
                return each.version
        known = ", ".join(each.name for each in arms) or "none"
        raise RequestError(404, f"no version is labelled '{arm}'; there are: {known}")

    async def close(self) -> None:
        """Answers what is queued, and refuses the rest."""
        for version in self._loaded.values():
            self._retire(version)
        await asyncio.gather(*self._retiring)

    def _let_go(self) -> None:
        for version in self._loaded.values():
            self._retire(version)
        self._hold({})

    def _hold(self, loaded: dict[str, LoadedVersion]) -> None:
        self._loaded = loaded
        self.likely_form = next(iter(loaded.values())).form if loaded else None

    def _replaced_by(self, table: TrafficTable) -> dict[str, LoadedVersion]:
        return {name: each for name, each in self._loaded.items() if name not in table.versions}

    async def _make_room(
        self,
        version: str,
        bundle: Bundle,
        table: TrafficTable,
        *,
        beside: dict[str, LoadedVersion],
    ) -> None:
        """Where memory does not hold `version`, too, unloads what `table` replaces, once it has
        answered; or refuses, where that is not wanted or nothing is replaced."""
        loaded = [each.footprint for each in (*self._loaded.values(), *beside.values())]
        needed = expected_bytes(bundle.artifact.size_bytes, loaded)
        replaced, policy = self._replaced_by(table), self._swap
        reason = shortage(version, needed, self._free_bytes(), policy, replaces=bool(replaced))
        if reason is None:
            return
        if policy.mode == "beside" or not replaced:
            raise ModelError(reason)
        _logger.warning("unloading %s first: %s", ", ".join(replaced), reason)
        self._hold({name: each for name, each in self._loaded.items() if name not in replaced})
        for old in replaced.values():
            self._retire(old)
        await asyncio.gather(*self._retiring)

    async def _restore(self) -> None:
        """Loads again what was unloaded for a table that is not followed after all."""
        if self._table is None or self._is_parked:
            return
        unloaded = [version for version in self._table.versions if version not in self._loaded]
        if unloaded:
            await asyncio.gather(*self._retiring)  # until what was loaded for that table is gone
        for version in unloaded:
            bundle = await self._attempts.run(version, partial(self._load, version))
            loaded = await self._preparer.prepare(version, bundle)
            self._hold({**self._loaded, version: loaded})

    def _retire(self, version: LoadedVersion) -> None:
        if self.answers is not None:
            self.answers.forget(lambda key: key[0] == version.version)
        task = asyncio.get_running_loop().create_task(version.close())
        self._retiring.add(task)
        task.add_done_callback(self._retiring.discard)
