"""Many models in few places: loaded when they are asked for, let go of when room is needed.

models = ModelCache(load, ModelCachePolicy(max_models=5))

async with models.use("flights-jfk") as model:
    model(rows)
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from inspect import iscoroutinefunction
from typing import Generic, TypeVar, cast

from raymlops.serve.caching.lru import CacheStats
from raymlops.serve.caching.ranking import Ranking

M = TypeVar("M")


@dataclass(frozen=True, kw_only=True)
class ModelCachePolicy:
    """How many models are held, those that are being loaded included, and of how many bytes.

    A model that is in use stays, so one that is larger than `max_bytes` is held alone. Each load
    under way keeps a place from a model that could be used: more than one `max_loads` pays where
    loading waits for a disk or a network, not where it computes.
    """

    max_models: int = 5
    max_bytes: int | None = None
    max_loads: int = 1

    def __post_init__(self) -> None:
        if self.max_models < 1:
            raise ValueError(f"max_models is {self.max_models}, at least 1 is needed")
        if self.max_bytes is not None and self.max_bytes < 1:
            raise ValueError(f"max_bytes is {self.max_bytes}, at least 1 is needed")
        if self.max_loads < 1:
            raise ValueError(f"max_loads is {self.max_loads}, at least 1 is needed")


@dataclass(slots=True, eq=False)
class _Place(Generic[M]):
    model: asyncio.Future[M]
    num_users: int = 0
    size_bytes: int = 0


class ModelCache(Generic[M]):
    """Holds what `load` returned, by name; belongs to one event loop.

    Each load that blocks runs in a thread of its own: models that are held are used, and others
    loaded, meanwhile. Who asks for a model that is being loaded waits for that load. When
    all places are in use, who comes first gets the next that is free.

    Args:
        load: blocks, or is a coroutine function, and may raise; everybody who waits for the model
            gets what it raised.
        size_of: bytes of a model; needed for `max_bytes`, and to weigh models by their size.
        on_leave: called with each model that is let go of, which nobody uses.
    """

    def __init__(
        self,
        load: Callable[[str], M] | Callable[[str], Awaitable[M]],
        policy: ModelCachePolicy,
        *,
        size_of: Callable[[M], int] = lambda _: 1,
        on_leave: Callable[[M], None] = lambda _: None,
    ) -> None:
        self._load = load
        self._policy = policy
        self._size_of = size_of
        self._on_leave = on_leave
        self._places: dict[str, _Place[M]] = {}
        self._ranking = Ranking()
        self._queue: deque[tuple[str, asyncio.Future[None]]] = deque()
        self._loads: set[asyncio.Task[None]] = set()
        self.stats = CacheStats()

    @property
    def names(self) -> tuple[str, ...]:
        """The models that are held or being loaded."""
        return tuple(self._places)

    @property
    def size_bytes(self) -> int:
        return sum(place.size_bytes for place in self._places.values())

    def at_hand(self, name: str) -> M | None:
        """The model if it is held, which counts as a use, for the current step of the loop."""
        place = self._places.get(name)
        if place is None or not place.model.done():
            return None
        self._count(name, place)
        return place.model.result()

    @asynccontextmanager
    async def use(self, name: str) -> AsyncIterator[M]:
        """The model, which stays for as long as the block runs."""
        place = await self._place(name)
        try:
            yield await asyncio.shield(place.model)
        finally:
            place.num_users -= 1
            self._shrink()
            self._admit_next()

    async def _place(self, name: str) -> _Place[M]:
        """Where the model is or will be, with one user more."""
        is_new = True
        while (place := self._places.get(name)) is None:
            if not (is_new and self._queue) and self._has_room():
                place = self._start(name)
                break
            await self._turn(name, is_new=is_new)
            is_new = False
        else:
            self._count(name, place)
        place.num_users += 1
        return place

    async def _turn(self, name: str, *, is_new: bool) -> None:
        """Returns when a place may be free; who comes back without one is still the first."""
        turn = asyncio.get_running_loop().create_future()
        if is_new:
            self._queue.append((name, turn))
        else:
            self._queue.appendleft((name, turn))
        try:
            await turn
        except asyncio.CancelledError:
            self._admit_next()  # if it was this one's turn, it is the next one's now
            raise

    def _count(self, name: str, place: _Place[M]) -> None:
        if place.model.done():
            self.stats.hits += 1
            self._ranking.use(name)
        else:
            self.stats.joined += 1
        self._admit_next()

    def _may_start(self) -> bool:
        """Whether a load may start, if need be in a place that an idle model has to leave."""
        if len(self._loads) >= self._policy.max_loads:
            return False
        return len(self._places) < self._policy.max_models or next(self._idle(), None) is not None

    def _has_room(self) -> bool:
        """Whether a load may start, now that an idle model has left if it had to."""
        if not self._may_start():
            return False
        return len(self._places) < self._policy.max_models or self._let_go()

    def _idle(self) -> Iterator[str]:
        for name, place in self._places.items():
            if not place.num_users and place.model.done():
                yield name

    def _let_go(self) -> bool:
        """Whether a model that nobody uses was there to go."""
        name = self._ranking.least(self._idle())
        if name is None:
            return False
        place = self._places.pop(name)
        self._ranking.drop(name)
        self.stats.evicted += 1
        self._on_leave(place.model.result())
        return True

    def _shrink(self) -> None:
        """Lets models go while they are too large together."""
        limit = self._policy.max_bytes
        while limit is not None and self.size_bytes > limit and self._let_go():
            pass

    def _admit_next(self) -> None:
        """Wakes who has waited longest for a place; it looks for itself whether there is one."""
        while self._queue and self._may_start():
            _, turn = self._queue.popleft()
            if not turn.done():
                turn.set_result(None)
                return

    def _start(self, name: str) -> _Place[M]:
        loop = asyncio.get_running_loop()
        place = self._places[name] = _Place(loop.create_future())
        self.stats.misses += 1
        task = loop.create_task(self._fill(name, place))
        self._loads.add(task)
        task.add_done_callback(self._loaded)
        self._join_queued(name)
        return place

    def _join_queued(self, name: str) -> None:
        """Lets those who queue for a model that has a place now wait for it there."""
        for asked, turn in self._queue:
            if asked == name and not turn.done():
                turn.set_result(None)
        self._queue = deque(each for each in self._queue if each[0] != name)

    def _loaded(self, task: asyncio.Task[None]) -> None:
        self._loads.discard(task)
        self._admit_next()

    async def _fill(self, name: str, place: _Place[M]) -> None:
        started = time.perf_counter()
        try:
            model = await self._result_of(name)
            place.size_bytes = self._size_of(model)
        except Exception as error:  # whatever loading raised belongs to those who wait for it
            del self._places[name]
            place.model.set_exception(error)
            place.model.exception()  # also when all of them have left
            return
        load_s = time.perf_counter() - started
        self._ranking.add(name, load_s=load_s, size_bytes=place.size_bytes)
        place.model.set_result(model)
        self._shrink()

    async def _result_of(self, name: str) -> M:
        loaded: M
        if iscoroutinefunction(self._load):
            loaded = await self._load(name)
        else:
            loaded = await asyncio.to_thread(cast("Callable[[str], M]", self._load), name)
        return loaded
