"""Many models in one replica: all follow their traffic tables, few are loaded.

    request --> is its model at hand? --yes--> the model's own replica answers
                       |no
                       +--> waits while it is loaded, in the place of one that is missed least

Each model has all that a replica of its own has: a traffic table with its arms, batches, a
monitor, metrics and a log. What it has not is its memory, while nobody asks for it.
"""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import time
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from raymlops.errors import RaymlopsError, RequestError
from raymlops.serve.caching import ModelCache, ModelCachePolicy
from raymlops.serve.client.messages import Answer, Columns
from raymlops.serve.door import Doorway
from raymlops.serve.door.sorting import model_of
from raymlops.serve.replica.follower import Board
from raymlops.serve.replica.replica import Replica
from raymlops.serve.replica.spec import ReplicaSpec
from raymlops.serve.routing import RoutingName
from raymlops.serve.tap.outbox import Sink
from raymlops.serve.web import (
    LONGEST_REMEMBERED,
    Handler,
    Reply,
    Request,
    Response,
    answered,
    later,
)
from raymlops.serve.web.asgi import Application
from raymlops.serve.witnesses.metrics import Outlet

_logger = logging.getLogger(__name__)

_RETRY_AFTER_S = 5.0
_REMEMBERED_PATHS = 4096


@dataclass(frozen=True, kw_only=True)
class PoolSpec:
    """What a replica of the pool `name` is made from; `models` differ in their names alone."""

    name: str
    models: tuple[ReplicaSpec, ...]
    policy: ModelCachePolicy


class Pool:
    """What `Replica` is to one model, to all models of `spec`, of which `spec.policy` holds some.

    Args:
        board_of: the traffic board, as the model of that name calls it.
        sink_of: the monitor of that model; None where nobody watches it.
    """

    def __init__(
        self,
        spec: PoolSpec,
        *,
        board_of: Callable[[str], Board],
        sink_of: Callable[[str], Sink | None],
        outlet: Outlet | None,
    ) -> None:
        self._spec = spec
        self._name = f"{spec.name}-{secrets.token_hex(6)}"
        self._cache = ModelCache(
            self._wake,
            spec.policy,
            size_of=lambda replica: replica.size_bytes,
            on_leave=self._park,
        )
        self._parking: set[asyncio.Task[None]] = set()
        self._replicas = {
            each.model: Replica(
                each,
                board=board_of(each.model),
                sink=sink_of(each.model),
                outlet=outlet,
                before=partial(self._with_model, each.model),
            )
            for each in spec.models
        }
        self._model_of_short = lru_cache(_REMEMBERED_PATHS)(model_of)
        self._doorway: Doorway | None = None
        self._serving: asyncio.Task[None] | None = None
        http = spec.models[0].http
        self.app = Application(
            self._handle,
            admit=self._admit,
            refused=self._refused,
            max_body_bytes=http.max_body_bytes,
            start=self._start,
            stop=self._stop,
        )

    async def load(self) -> None:
        """Learns what each model is to load once it is asked for.

        Raises:
            NotFoundError: no table of a model was ever published.
        """
        for replica in self._replicas.values():
            await replica.rest()

    def stand_behind(self, door: Path, routing: RoutingName | None = None) -> None:
        """Takes connections from the door at that socket, which deals them by `routing`, from when
        the pool starts."""
        self._doorway = Doorway(
            door,
            models=tuple(self._replicas),
            replica=self._name,
            handler=self._handle,
            limits=self._spec.models[0].http,
            admit=self._admit,
            refused=self._refused,
            describe=self._describe,
            routing=routing,
        )

    async def infer(self, columns: Columns, *, model: str, **about: Any) -> Answer:
        """As `Replica.infer` of `model`."""
        return await self._replica(model).infer(columns, **about)

    @property
    def rows_per_s(self) -> float:
        """Of the slowest model that is held."""
        return min((self._replicas[name].rows_per_s for name in self._cache.names), default=1.0)

    @property
    def num_in_work(self) -> int:
        """Requests that wait for their batch, or run; not those that wait for their model."""
        return sum(replica.num_in_work for replica in self._replicas.values())

    @property
    def spent_s(self) -> float:
        """How long all requests took that were answered, failures among them."""
        return sum(replica.spent_s for replica in self._replicas.values())

    def check_health(self) -> None:
        """Raises RuntimeError when an engine of any model hangs, or a loop has ended."""
        for replica in self._replicas.values():
            replica.check_health()
        if self._serving is not None and self._serving.done():
            raise RuntimeError(f"the doorway of pool {self._spec.name} has ended")

    # Requests.

    def _handle(self, request: Request, reply: Reply) -> None:
        try:
            replica = self._asked(request)
        except RequestError as error:
            reply(Response.refusal(error))
        else:
            replica.handler(request, reply)

    def _admit(self, request: Request) -> Response | None:
        """By the keys of the model that is asked for."""
        try:
            admit = self._asked(request).admit
        except RequestError as error:
            return Response.refusal(error)
        return None if admit is None else admit(request)

    def _refused(self, request: Request, response: Response) -> None:
        """Is a matter of the model that was asked for, if there is one."""
        with suppress(RequestError):
            self._asked(request).refused(request, response)

    def _asked(self, request: Request) -> Replica:
        """Raises RequestError as `_replica`."""
        path = request.path
        is_short = len(path) <= LONGEST_REMEMBERED
        return self._replica(self._model_of_short(path) if is_short else model_of(path))

    def _replica(self, model: str | None) -> Replica:
        """Raises RequestError, 404, when the pool has no such model."""
        if model is None and len(self._replicas) == 1:
            return next(iter(self._replicas.values()))
        if model not in self._replicas:
            raise RequestError(404, f"no model '{model}' is in pool '{self._spec.name}'")
        return self._replicas[model]

    def _with_model(self, model: str, handler: Handler) -> Handler:
        """Asks `handler` once the model is at hand. It submits to the batcher of a version in the
        same step, which answers what it has before it is let go."""
        waiting = later(partial(self._answered, model, handler))

        def handle(request: Request, reply: Reply) -> None:
            asked = handler if self._cache.at_hand(model) is not None else waiting
            asked(request, reply)

        return handle

    async def _answered(self, model: str, handler: Handler, request: Request) -> Response:
        try:
            async with self._cache.use(model):
                # Who leaves ends this task, and with it what `handler` does for the copy.
                return await answered(handler, replace(request, on_gone=None))
        except RaymlopsError as error:
            _logger.warning("model '%s' cannot be loaded: %s", model, error)
            message = f"model '{model}' cannot be loaded, logged; try again"
            raise RequestError(503, message, _RETRY_AFTER_S) from error

    # Models.

    async def _wake(self, model: str) -> Replica:
        replica = self._replicas[model]
        await replica.wake()
        return replica

    def _park(self, replica: Replica) -> None:
        task = asyncio.get_running_loop().create_task(replica.park())
        self._parking.add(task)
        task.add_done_callback(self._parking.discard)

    def _describe(self) -> dict[str, Any]:
        """What `raymlops serve status` tells of this replica."""
        told = {model: replica.describe() for model, replica in self._replicas.items()}
        requests = sum(each["requests"] for each in told.values())
        spent_ms = sum(each["requests"] * each["mean_ms"] for each in told.values())
        return {
            "pid": os.getpid(),
            "pool": self._spec.name,
            "versions": [
                f"{model}@{version}"
                for model in sorted(self._cache.names)
                for version in told[model]["versions"]
            ],
            "requests": requests,
            "refused": sum(each["refused"] for each in told.values()),
            "failed": sum(each["failed"] for each in told.values()),
            "mean_ms": spent_ms / requests if requests else 0.0,
            "rows_per_s": self.rows_per_s,
            "loads": self._cache.stats.misses,
        }

    async def _start(self) -> None:
        await _all(replica.start() for replica in self._replicas.values())
        if self._doorway is not None:
            self._serving = asyncio.create_task(self._doorway.run(), name="doorway")

    async def _stop(self) -> None:
        ends_at = time.monotonic() + (drain_s := self._spec.models[0].drain_timeout_s)
        if self._doorway is not None and self._serving is not None:
            await self._doorway.leave(drain_s)
            self._serving.cancel()
            self._doorway.close()
        left_s = max(0.0, ends_at - time.monotonic())
        await _all(replica.stop(left_s) for replica in self._replicas.values())


async def _all(waits: Iterable[Awaitable[None]]) -> None:
    await asyncio.gather(*waits)
