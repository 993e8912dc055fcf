"""Six models in a pool of few places, and who asks them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from raymlops.models import PROBABILITY
from raymlops.serve import BatchPolicy, HttpLimits, ModelCachePolicy, ReplicaSpec, TapSummary
from raymlops.serve.replica.pool import Pool, PoolSpec
from raymlops.serve.traffic.board import Published, Standing
from raymlops.serve.web.cors import CorsPolicy
from raymlops.serve.witnesses.metrics import Outlet
from tests.serve.conftest import World
from tests.serve.replica.application import body
from tests.serve.replica.surroundings import QuietBoard, Server

WARDS = tuple(f"ward-{number}" for number in range(6))


class Board(QuietBoard):
    """Has the news it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.news: asyncio.Queue[Published] = asyncio.Queue()
        self.standing: Standing | None = None

    async def wait(self, standing: Standing) -> Published | None:
        self.standing = standing
        return await self.news.get()


@dataclass
class Ward:
    """A pool with its models' boards, and what their monitors were told."""

    pool: Pool
    boards: dict[str, Board]
    summaries: list[TapSummary]
    client: httpx.AsyncClient
    world: World

    async def ask(self, model: str, start: int = 0, **options: Any) -> httpx.Response:
        """The answer to three rows."""
        path = f"/v2/models/{model}/infer"
        return await self.client.post(path, content=body(self.world, start=start), **options)

    def wanted(self, version: str, start: int = 0) -> np.ndarray:
        return self.world.bundles[version].predict(self.world.rows(start, start + 3))[PROBABILITY]

    @property
    def held(self) -> set[str]:
        return {each.split("@")[0] for each in self.pool._describe()["versions"]}

    @property
    def num_loads(self) -> int:
        return int(self.pool._describe()["loads"])


def probability(answer: httpx.Response) -> list[float]:
    assert answer.status_code == 200, answer.text
    (told,) = [each for each in answer.json()["outputs"] if each["name"] == PROBABILITY]
    return list(told["data"])


Test = Callable[[Ward], Coroutine[Any, Any, None]]


def run(
    world: World,
    test: Test,
    *,
    max_models: int = 2,
    keys_file: Path | None = None,
    cors: CorsPolicy | None = None,
    outlet: Outlet | None = None,
) -> Ward:
    spec = ReplicaSpec(
        model="",
        ledger_url=world.ledger_url,
        store_uri=world.store_uri,
        batch=BatchPolicy(),
        http=HttpLimits(),
        keys_file=keys_file,
        cors=cors or CorsPolicy(),
    )
    boards: dict[str, Board] = {}
    summaries: list[TapSummary] = []

    async def sink(*messages: bytes) -> None:
        summaries.extend(map(TapSummary.from_bytes, messages))

    async def whole() -> Ward:
        boards.update({model: Board() for model in WARDS})
        pool = Pool(
            PoolSpec(
                name="wards",
                models=tuple(replace(spec, model=model) for model in WARDS),
                policy=ModelCachePolicy(max_models=max_models),
            ),
            board_of=boards.__getitem__,
            sink_of=lambda _: sink,
            outlet=outlet,
        )
        await pool.load()
        async with Server(pool.app) as client:
            ward = Ward(pool, boards, summaries, client, world)
            await test(ward)
            pool.check_health()
        return ward

    return asyncio.run(asyncio.wait_for(whole(), 60.0))
