"""One replica of a model: an ASGI application and its loops, whatever server it runs behind."""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from raymlops.errors import NotFoundError
from raymlops.ledger import open_ledger
from raymlops.serve.client.direct import infer_directly
from raymlops.serve.client.messages import Answer, Columns
from raymlops.serve.door import Doorway
from raymlops.serve.inference import Inference
from raymlops.serve.protocols.open_inference.grpc import GrpcServer
from raymlops.serve.replica.entrance import Entrance
from raymlops.serve.replica.follower import Board, Follower
from raymlops.serve.replica.spec import ReplicaSpec
from raymlops.serve.routing import RoutingName
from raymlops.serve.tap.outbox import Sink
from raymlops.serve.traffic.board import Published
from raymlops.serve.versions.arms import Arms
from raymlops.serve.versions.registered import RegisteredBundles
from raymlops.serve.web import Admit, Handler
from raymlops.serve.web.asgi import Application
from raymlops.serve.witnesses.audience import Audience
from raymlops.serve.witnesses.metrics import Outlet
from raymlops.storage import CopyingStore, Store
from raymlops.telemetry import Series, catalogue

_logger = logging.getLogger(__name__)

# What others read on a node in this time is far less than it keeps.
_RENEWED_EVERY_S = 60.0


class Replica:
    """Serves `spec.model` as the newest traffic table in the ledger says, and follows `board`.

    `load` it before `app` is given to a server, whose lifespan events start and stop the loops;
    let it `stand_behind` a door, and it answers what comes through that as well.
    With a `sink`, every answer is told to the monitor behind it; an `outlet` gets what is counted.
    What answers requests is given to `before`, and what that returns is asked instead.
    """

    def __init__(
        self,
        spec: ReplicaSpec,
        *,
        board: Board,
        sink: Sink | None,
        outlet: Outlet | None,
        before: Callable[[Handler], Handler] = lambda handler: handler,
    ) -> None:
        # A name of its own for each life, since messages of the tap are numbered from 0 in each.
        name = f"{spec.model}-{secrets.token_hex(6)}"
        self._spec = spec
        self._name = name
        self._model = spec.model
        self._ledger = open_ledger(spec.ledger_url)
        self._bundles = RegisteredBundles(spec.model, self._ledger, _store(spec))
        self._arms = Arms(
            self._bundles.load,
            spec.batch,
            spec.engine,
            cache=spec.cache,
            swap=spec.swap,
            discreet=bool(spec.log.hidden),
        )
        self._follower = Follower(self._arms, board, name)
        self._audience = Audience(spec, name, sink=sink, outlet=outlet)
        self._audience.watch(self._cache_series)
        self._audience.watch(partial(self._arms.series, spec.model))
        self._inference = Inference(
            spec.model, self._arms, self._audience.note, self._audience.statistics
        )
        self._entrance = Entrance(spec, self._inference, before)
        self.handler: Handler = self._entrance.handler
        self.admit: Admit | None = self._entrance.admit
        self.refused = self._inference.refused
        self._grpc: GrpcServer | None = None
        if spec.grpc is not None:
            self._grpc = GrpcServer(
                self._inference, limits=spec.http, admit=self.admit, tls=spec.tls
            )
        self._doorway: Doorway | None = None
        self.app = Application(
            self.handler,
            admit=self.admit,
            refused=self.refused,
            max_body_bytes=spec.http.max_body_bytes,
            start=self.start,
            stop=self.stop,
        )
        self._loops: dict[str, asyncio.Task[None]] = {}

    async def load(self) -> None:
        """Loads what the newest published table names.

        Raises:
            NotFoundError: no table was published, or it names an unknown version.
            StorageError, ModelError: a version of it cannot be loaded.
        """
        await self._follower.start_with(await self._published())

    async def rest(self) -> None:
        """Is ready to load that, and holds nothing until it is told to `wake`.

        Raises:
            NotFoundError: no table was published.
        """
        self._follower.rest_at(await self._published())

    async def wake(self) -> None:
        """Loads what is followed; raises what `load` does."""
        await self._arms.wake()

    async def park(self) -> None:
        """Lets go of it, once it has answered what it was asked."""
        await self._arms.park()

    def stand_behind(self, door: Path, routing: RoutingName | None = None) -> None:
        """Takes connections from the door at that socket, which deals them by `routing`, from when
        the replica starts."""
        self._doorway = Doorway(
            door,
            models=(self._model,),
            replica=self._name,
            handler=self.handler,
            limits=self._spec.http,
            admit=self.admit,
            refused=self.refused,
            describe=self.describe,
            routing=routing,
        )

    async def infer(self, columns: Columns, **about: Any) -> Answer:
        """As `infer_directly`; whoever can call this needs no key."""
        return await infer_directly(self.handler, self._model, columns, **about)

    @property
    def size_bytes(self) -> int:
        """Of the files of what is loaded."""
        return self._arms.size_bytes

    @property
    def rows_per_s(self) -> float:
        """What its engines can do, as the warm-up and then the traffic show it."""
        return self._arms.rows_per_s

    @property
    def num_in_work(self) -> int:
        """Requests that wait or run."""
        return self._arms.num_in_work

    @property
    def spent_s(self) -> float:
        """How long all requests took that were answered, failures among them."""
        return sum(tally.spent_s for tally in self._inference.statistics.of.values())

    def check_health(self) -> None:
        """Raises RuntimeError when an engine hangs, or a loop has ended, which none should."""
        self._arms.check_health()
        for name, loop in self._loops.items():
            if loop.done():
                raise RuntimeError(f"the {name} of {self._model} has ended; see the log above")

    def describe(self) -> dict[str, Any]:
        """What `raymlops serve status` tells of this replica."""
        tallies = self._inference.statistics.of.values()
        ok = sum(tally.num_ok for tally in tallies)
        ok_s = sum(tally.ok_s for tally in tallies)
        return {
            "pid": os.getpid(),
            "versions": list(self._arms.versions),
            "grpc": None if self._spec.grpc is None else list(self._spec.grpc),
            "requests": ok,
            "refused": sum(tally.num_refused for tally in tallies),
            "failed": sum(tally.num_failed for tally in tallies),
            "mean_ms": 1000.0 * ok_s / ok if ok else 0.0,
            "rows_per_s": self.rows_per_s,
        }

    async def _published(self) -> Published:
        published = await asyncio.to_thread(self._ledger.releases.published, self._model)
        if published is None:
            raise NotFoundError(f"no traffic table of {self._model} was ever published")
        return Published(generation=published[0], table=published[1])

    def _cache_series(self) -> tuple[Series, ...]:
        if self._arms.answers is None:
            return ()
        stats = self._arms.answers.stats
        counts = {"hit": stats.hits, "miss": stats.misses, "joined": stats.joined}
        name = catalogue.CACHE_LOOKUPS.name
        return tuple(Series(name, (self._model, how), count) for how, count in counts.items())

    async def start(self) -> None:
        """Starts the loops, on the event loop this is called on."""
        loops = {
            "follower": self._follower.run(),
            "renewal": self._renew_copies(),
            **self._entrance.loops(),
            **self._audience.loops(),
        }
        if self._doorway is not None:
            loops["doorway"] = self._doorway.run()
        for name, loop in loops.items():
            self._loops[name] = asyncio.create_task(loop, name=name)
            self._loops[name].add_done_callback(_log_failure)
        if self._grpc is not None and self._spec.grpc is not None:
            await self._grpc.start(*self._spec.grpc)

    async def stop(self, drain_timeout_s: float | None = None) -> None:
        """Answers what is queued, tells the monitor of it, and lets go of everything.

        What lasts longer than `drain_timeout_s`, by default that of the specification, is given
        up: a replica that takes much longer is killed, and the monitor is told of nothing.
        """
        drain_s = self._spec.drain_timeout_s if drain_timeout_s is None else drain_timeout_s
        ends_at = time.monotonic() + drain_s
        async with asyncio.TaskGroup() as leaving:
            if self._grpc is not None:
                leaving.create_task(self._grpc.stop(drain_s))
            if self._doorway is not None:
                leaving.create_task(self._leave(self._doorway, drain_s))
        await self._entrance.close(max(0.0, ends_at - time.monotonic()))
        for name in ("follower", "renewal", "sweeper", "keyring"):
            if name in self._loops:
                self._loops.pop(name).cancel()
        await self._follower.leave()
        await self._arms.close()
        await self._audience.leave(self._loops)
        self._ledger.close()

    async def _renew_copies(self) -> None:
        """Has the node keep what is served; never returns."""
        while True:
            await asyncio.sleep(_RENEWED_EVERY_S)
            await asyncio.to_thread(self._bundles.renew, self._arms.named)

    async def _leave(self, doorway: Doorway, timeout_s: float) -> None:
        await doorway.leave(timeout_s)
        self._loops.pop("doorway").cancel()
        doorway.close()


def _store(spec: ReplicaSpec) -> Store:
    if spec.copies is None:
        return Store(spec.store_uri)
    return CopyingStore(spec.store_uri, spec.copies)


def _log_failure(loop: asyncio.Task[None]) -> None:
    if not loop.cancelled() and (error := loop.exception()) is not None:
        _logger.error("the %s has failed", loop.get_name(), exc_info=error)
