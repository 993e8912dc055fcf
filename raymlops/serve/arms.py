"""The versions a replica has loaded, and the traffic table it follows."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial

from raymlops.errors import NotFoundError, RequestError
from raymlops.ledger import Ledger, Version
from raymlops.models import Bundle, Signature
from raymlops.serve.batching import Batcher, BatchPolicy, EngineSpeed, Run, warm_up
from raymlops.serve.engines import BundleRunner, EngineSettings, check_cpus, pin
from raymlops.serve.form import Form
from raymlops.serve.traffic import TrafficTable
from raymlops.storage import Store

_logger = logging.getLogger(__name__)

PINNED = "pinned"
"""The arm of requests that name a version: they are no sample of the traffic that is split."""

Loader = Callable[[str], Bundle]
"""The bundle of a version, verified; blocks."""


@dataclass(frozen=True, kw_only=True, eq=False)
class LoadedVersion:
    """A version that answers."""

    version: str
    bundle: Bundle
    batcher: Batcher

    @property
    def signature(self) -> Signature:
        return self.bundle.signature

    @cached_property
    def form(self) -> Form:
        return Form(self.signature)


class Arms:
    """What a replica serves now: one table, with every version of it loaded.

    Picking a version and submitting to its batcher happen in one step of the event loop, so a
    version that is replaced has every request it was picked for in its queue, and answers them.
    """

    def __init__(
        self, load: Loader, policy: BatchPolicy, engine: EngineSettings | None = None
    ) -> None:
        self._load = load
        self._policy = policy
        self._engine = engine or EngineSettings()
        self._table: TrafficTable | None = None
        self._loaded: dict[str, LoadedVersion] = {}
        self._retiring: set[asyncio.Task[None]] = set()

    @property
    def versions(self) -> tuple[str, ...]:
        return tuple(self._loaded)

    async def apply(self, table: TrafficTable) -> None:
        """Follows `table` from when all of its versions are loaded and warm.

        Whatever is raised while one is being loaded, the old table stays in force.
        """
        missing = [version for version in table.versions if version not in self._loaded]
        fresh = {version: await self._load_version(version) for version in missing}
        known = self._loaded | fresh
        dropped = [self._loaded[version] for version in self._loaded.keys() - {*table.versions}]
        self._loaded = {version: known[version] for version in table.versions}
        self._table = table
        for version in dropped:
            self._retire(version)

    def of_key(self, key: str) -> tuple[str, LoadedVersion]:
        """The arm that `key` belongs to, and the version that answers it.

        Raises:
            RequestError: 503 before the first table.
        """
        if self._table is None:
            raise RequestError(503, "no version is loaded yet; try again")
        arm = self._table.arm_of(key)
        return arm.name, self._loaded[arm.version]

    def of_version(self, version: str) -> tuple[str, LoadedVersion]:
        """Raises RequestError, 404, when `version` is not loaded."""
        if version not in self._loaded:
            held = ", ".join(self._loaded) or "none"
            raise RequestError(404, f"version {version} is not loaded; there are: {held}")
        return PINNED, self._loaded[version]

    def check_health(self) -> None:
        """Raises RuntimeError when an engine hangs."""
        for version in self._loaded.values():
            version.batcher.check_health()

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

    async def _load_version(self, version: str) -> LoadedVersion:
        bundle, run, speed = await asyncio.to_thread(self._load_warm, version)
        _logger.info("loaded version %s", version)
        batcher = Batcher(
            run,
            self._policy,
            num_instances=self._engine.num_instances,
            # The event loop is not pinned, so a pinned engine runs in its threads alone.
            speed=None if self._engine.cpus else speed,
            prepare=partial(pin, self._engine),
        )
        return LoadedVersion(version=version, bundle=bundle, batcher=batcher)

    def _load_warm(self, version: str) -> tuple[Bundle, Run, EngineSpeed]:
        check_cpus(self._engine)
        bundle = self._load(version)
        run = BundleRunner(bundle, self._engine)
        return bundle, run, warm_up(run, bundle.sample)

    def _retire(self, version: LoadedVersion) -> None:
        task = asyncio.get_running_loop().create_task(version.batcher.close())
        self._retiring.add(task)
        task.add_done_callback(self._retiring.discard)


def bundle_loader(model: str, ledger: Ledger, store: Store) -> Loader:
    """Loads what the ledger registered as a version of `model`."""

    def load(version: str) -> Bundle:
        try:
            parsed = Version.parse(version)
        except ValueError as error:
            raise NotFoundError(f"{model}: {error}") from error
        return Bundle.of_version(store, ledger.registry.get(model, parsed))

    return load
