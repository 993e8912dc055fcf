"""The application of a model, called without a network."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import orjson

from raymlops.models import Bundle
from raymlops.serve import Arm, BatchPolicy, TrafficTable
from raymlops.serve.exchange import Exchange, runs_of
from raymlops.serve.inference import Inference
from raymlops.serve.replica.app import model_handler
from raymlops.serve.versions.arms import Arms
from raymlops.serve.web.asgi import Application
from raymlops.serve.witnesses.statistics import Statistics
from tests.serve.conftest import MODEL, World

INFER = f"/v2/models/{MODEL}/infer"
MAX_BODY_BYTES = 10_000


@asynccontextmanager
async def serving(
    bundles: dict[str, Bundle], *versions: str
) -> AsyncIterator[tuple[httpx.AsyncClient, list[Exchange]]]:
    """The application itself, called without a network, and the exchanges it recorded."""
    exchanges: list[Exchange] = []
    arms = Arms(bundles.__getitem__, BatchPolicy())
    if versions:
        parts = tuple(Arm(name=f"v{v}", version=v, share=1 / len(versions)) for v in versions)
        await arms.apply(TrafficTable(model=MODEL, arms=parts))
    app = application(arms, exchanges)
    transport = httpx.ASGITransport(app=app, raise_app_exceptions=True)
    async with httpx.AsyncClient(transport=transport, base_url="http://server") as client:
        yield client, exchanges
    await arms.close()


def application(arms: Arms, exchanges: list[Exchange]) -> Application:
    statistics = Statistics()

    def record(exchange: Exchange) -> None:
        exchanges.append(exchange)
        statistics.note(runs_of([exchange]))

    inference = Inference(MODEL, arms, record, statistics)
    handler = model_handler(inference, max_body_bytes=MAX_BODY_BYTES)
    return Application(handler, max_body_bytes=MAX_BODY_BYTES, refused=inference.refused)


def body(world: World, num_rows: int = 3, *, start: int = 0, **members: Any) -> bytes:
    """A request with rows of the world, and other members beside its inputs."""
    inputs = [
        {
            "name": name,
            "datatype": "BYTES" if column.dtype == object else "FP64",
            "shape": [num_rows],
            "data": [None if value != value else value for value in column.tolist()],
        }
        for name, column in world.rows(start, start + num_rows).items()
    ]
    return orjson.dumps({"inputs": inputs} | members)
