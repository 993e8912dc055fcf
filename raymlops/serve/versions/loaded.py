"""A version that answers: its engine, warmed up, behind a batcher and perhaps a cache."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial

from raymlops.models import Bundle, Signature
from raymlops.serve.batching import Batcher, BatchPolicy, EngineSpeed, Outputs, Run, warm_up
from raymlops.serve.batching.padding import padding_only
from raymlops.serve.caching import LruCache, PredictionCache
from raymlops.serve.caching.predictions import Enqueue, Key
from raymlops.serve.engines import (
    BundleRunner,
    Discreet,
    EngineSettings,
    IsolatedRunner,
    check_cpus,
    pin,
)
from raymlops.serve.form import Form, form_of
from raymlops.serve.process import memory
from raymlops.serve.versions.attempts import Attempts
from raymlops.serve.versions.swapping import Footprint

_logger = logging.getLogger(__name__)

_UNKNOWN = Footprint(size_bytes=0, grown_bytes=0)

Loader = Callable[[str], Bundle]
"""The bundle of a version, verified; blocks."""


@dataclass(frozen=True, kw_only=True, eq=False)
class LoadedVersion:
    """A version that answers."""

    version: str
    bundle: Bundle
    batcher: Batcher
    run: Run | None = None
    footprint: Footprint = _UNKNOWN
    cache: PredictionCache | None = None
    load_s: float = 0.0

    @cached_property
    def enqueue(self) -> Enqueue:
        """`Batcher.enqueue`, past the cache if there is one."""
        return self.batcher.enqueue if self.cache is None else self.cache.enqueue

    def check_health(self) -> None:
        """Raises RuntimeError when its engine hangs, or dies time and again."""
        self.batcher.check_health()
        if isinstance(self.run, IsolatedRunner):
            self.run.check_health()

    async def close(self) -> None:
        """Answers what is queued, and ends the engine."""
        await self.batcher.close()
        if isinstance(self.run, IsolatedRunner):
            await asyncio.to_thread(self.run.close)

    @property
    def signature(self) -> Signature:
        return self.bundle.signature

    @cached_property
    def form(self) -> Form:
        return form_of(self.signature)


class Preparer:
    """Makes bundles answer: by engines as `settings` say, in batches as `policy` says, with what
    was asked before in `answers`; their failures quote no values where they are `discreet`."""

    def __init__(
        self,
        policy: BatchPolicy,
        settings: EngineSettings,
        answers: LruCache[Key, Outputs] | None,
        attempts: Attempts,
        *,
        discreet: bool,
    ) -> None:
        self._policy = policy
        self._settings = settings
        self._answers = answers
        self._attempts = attempts
        self._discreet = discreet

    async def prepare(self, version: str, bundle: Bundle) -> LoadedVersion:
        """The version, once its engine has been warmed up; raises what that does."""
        before = memory.resident_bytes()
        run, speed = await self._attempts.run(version, partial(self._warm, bundle))
        grown_bytes = memory.resident_bytes() - before
        _logger.info("loaded version %s, %.0f MiB", version, grown_bytes / 2**20)
        free = tuple(field.name for field in bundle.signature.inputs if field.is_free)
        batcher = Batcher(
            Discreet(run) if self._discreet else run,
            padding_only(self._policy, free),
            free=free,
            num_instances=self._settings.num_instances,
            # The event loop is not pinned, and must not wait for another process.
            speed=None if self._settings.cpus or self._settings.isolate else speed,
            prepare=partial(pin, self._settings),
        )
        cache = None
        if self._answers is not None:
            cache = PredictionCache(version, batcher.enqueue, self._answers)
        size_bytes = bundle.artifact.size_bytes
        return LoadedVersion(
            version=version,
            bundle=bundle,
            batcher=batcher,
            run=run,
            footprint=Footprint(size_bytes=size_bytes, grown_bytes=grown_bytes),
            cache=cache,
        )

    def _warm(self, bundle: Bundle) -> tuple[BundleRunner | IsolatedRunner, EngineSpeed]:
        check_cpus(self._settings)
        run = self._runner(bundle)
        try:
            return run, warm_up(run, bundle.sample)
        except Exception:
            if isinstance(run, IsolatedRunner):
                run.close()
            raise

    def _runner(self, bundle: Bundle) -> BundleRunner | IsolatedRunner:
        if self._settings.isolate:
            return IsolatedRunner(bundle, self._settings, limit_s=self._policy.hang_after_s)
        return BundleRunner(bundle, self._settings)
