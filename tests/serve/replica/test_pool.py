"""Six models in two places: everybody is answered by their own, whoever is held."""

from __future__ import annotations

import asyncio
import gc
import os
import tracemalloc
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import orjson
import pytest

from raymlops.ledger import Ledger
from raymlops.models import PROBABILITY, Bundle
from raymlops.serve import (
    BatchPolicy,
    HttpLimits,
    ModelCachePolicy,
    ReplicaSpec,
    TapSummary,
    TrafficTable,
)
from raymlops.serve.access import ApiKey, Keyring, digest_of
from raymlops.serve.replica.pool import Pool, PoolSpec
from raymlops.serve.traffic.board import Published, Standing
from raymlops.serve.web import Request, answered
from raymlops.serve.web.cors import CorsPolicy
from raymlops.serve.witnesses.metrics import Outlet
from raymlops.storage import Store
from raymlops.telemetry import Series, Snapshot
from tests.serve.conftest import VERSIONS, World, read_columns, register
from tests.serve.coroutines import until
from tests.serve.replica.test_replica import QuietBoard, Server

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
        columns = self.world.rows(start, start + 3)
        body = {"inputs": [_tensor(name, column) for name, column in columns.items()]}
        path = f"/v2/models/{model}/infer"
        return await self.client.post(path, content=orjson.dumps(body), **options)

    def wanted(self, version: str, start: int = 0) -> np.ndarray:
        return self.world.bundles[version].predict(self.world.rows(start, start + 3))[PROBABILITY]

    @property
    def held(self) -> set[str]:
        return {each.split("@")[0] for each in self.pool._describe()["versions"]}

    @property
    def num_loads(self) -> int:
        return int(self.pool._describe()["loads"])


def _tensor(name: str, column: np.ndarray) -> dict[str, Any]:
    texts = column.dtype == object
    values = [None if value != value else value for value in column.tolist()]
    return {
        "name": name,
        "shape": [len(values)],
        "datatype": "BYTES" if texts else "FP64",
        "data": values,
    }


def probability(answer: httpx.Response) -> list[float]:
    assert answer.status_code == 200, answer.text
    (told,) = [each for each in answer.json()["outputs"] if each["name"] == PROBABILITY]
    return list(told["data"])


@pytest.fixture
def wards(bundles: dict[str, Bundle], tmp_path: Path) -> World:
    """Each model in three versions, of which the champion is another one for each."""
    url, uri = f"sqlite:///{tmp_path}/ledger.db", str(tmp_path / "store")
    with Ledger(url) as ledger:
        for number, model in enumerate(WARDS):
            for bundle in bundles.values():
                register(ledger, Store(uri), model, bundle)
            table = TrafficTable.champion(model, VERSIONS[number % 3])
            ledger.releases.publish(model, table.to_dict())
    return World(url, uri, bundles, read_columns()[0])


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


def test_each_model_answers_though_few_are_held(wards: World) -> None:
    async def test(ward: Ward) -> None:
        assert ward.held == set()
        for start in range(3):
            for number, model in enumerate(WARDS):
                answer = probability(await ward.ask(model, start))
                wanted = ward.wanted(VERSIONS[number % 3], start)
                np.testing.assert_allclose(answer, wanted, rtol=1e-6)
                assert model in ward.held
                assert len(ward.held) <= 2
        num_loads = ward.num_loads
        assert len(WARDS) < num_loads <= 18
        for _ in range(5):
            probability(await ward.ask(WARDS[-1]))
        assert ward.num_loads == num_loads

    ward = run(wards, test)
    told = {(summary.model, pane.num_rows) for summary in ward.summaries for pane in summary.panes}
    assert {model for model, _ in told} == set(WARDS)
    rows = sum(pane.num_rows for summary in ward.summaries for pane in summary.panes)
    assert rows == 3 * (18 + 5)


def test_what_is_asked_at_once_is_answered_while_models_come_and_go(wards: World) -> None:
    async def test(ward: Ward) -> None:
        asked = [(number, start) for start in range(20) for number in range(len(WARDS))]
        answers = await asyncio.gather(*(ward.ask(WARDS[number], start) for number, start in asked))
        for (number, start), answer in zip(asked, answers, strict=True):
            wanted = ward.wanted(VERSIONS[number % 3], start)
            np.testing.assert_allclose(probability(answer), wanted, rtol=1e-6)

    run(wards, test, max_models=1)


def test_a_release_reaches_a_model_that_is_not_held(wards: World) -> None:
    async def test(ward: Ward) -> None:
        board = ward.boards["ward-0"]
        with Ledger(wards.ledger_url) as ledger:
            table = TrafficTable.champion("ward-0", "1.0.2").to_dict()
            generation = ledger.releases.publish("ward-0", table)
        await board.news.put(Published(generation=generation, table=table))
        await until(lambda: board.standing is not None and board.standing.generation > 1)
        assert ward.held == set()  # it was loaded to see that it can be, and let go
        np.testing.assert_allclose(
            probability(await ward.ask("ward-0")), ward.wanted("1.0.2"), rtol=1e-6
        )

    run(wards, test)


def test_a_table_that_cannot_be_loaded_is_refused_by_a_model_that_is_not_held(
    wards: World,
) -> None:
    async def test(ward: Ward) -> None:
        board = ward.boards["ward-0"]
        table = TrafficTable.champion("ward-0", "9.9.9").to_dict()
        await board.news.put(Published(generation=1000, table=table))
        await until(lambda: board.standing is not None and board.standing.refused == 1000)
        assert board.standing is not None
        assert "9.9.9" in board.standing.reason
        np.testing.assert_allclose(
            probability(await ward.ask("ward-0")), ward.wanted("1.0.0"), rtol=1e-6
        )

    run(wards, test)


def test_a_model_that_cannot_be_loaded_fails_alone_and_is_tried_again(
    wards: World, caplog: pytest.LogCaptureFixture
) -> None:
    store = Path(wards.store_uri)
    away = store.with_name("away")

    async def test(ward: Ward) -> None:
        probability(await ward.ask("ward-1"))
        os.rename(store, away)
        refused = await ward.ask("ward-0")
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "5")
        assert refused.json() == {"error": "model 'ward-0' cannot be loaded, logged; try again"}
        assert f"model 'ward-0' cannot be loaded: {store} holds no blob" in caplog.text
        probability(await ward.ask("ward-1"))
        os.rename(away, store)
        probability(await ward.ask("ward-0"))

    run(wards, test)


def test_nobody_but_its_models_is_in_a_pool(wards: World) -> None:
    async def test(ward: Ward) -> None:
        for path in ("/v2/models/ward-7", "/predict", "/v2"):
            answer = await ward.client.get(path)
            assert answer.status_code == 404
            assert "in pool 'wards'" in answer.text

    run(wards, test)


def test_paths_that_are_made_up_fill_no_memory(wards: World) -> None:
    def held_bytes() -> int:
        gc.collect()
        return tracemalloc.get_traced_memory()[0]

    async def test(ward: Ward) -> None:
        before = held_bytes()
        for number in range(400):
            path = f"/v2/models/nobody/{number}%F0%9F%98%80" + "x" * 15_000
            assert (await ward.client.get(path)).status_code == 404
        assert held_bytes() - before < 10_000_000  # all of them take 28 MB

    tracemalloc.start()
    try:
        run(wards, test)
    finally:
        tracemalloc.stop()


def test_a_key_is_good_for_the_models_it_names(wards: World, tmp_path: Path) -> None:
    keys_file = tmp_path / "keys.json"
    Keyring(keys_file).add(ApiKey(name="one", digest=digest_of("rml_one"), models=("ward-1",)))

    async def test(ward: Ward) -> None:
        key = {"x-api-key": "rml_one"}
        assert (await ward.ask("ward-1")).status_code == 401
        assert (await ward.ask("ward-0", headers=key)).status_code == 403
        assert (await ward.ask("ward-1", headers=key)).status_code == 200
        assert ward.held == {"ward-1"}

    series: list[Series] = []

    async def outlet(snapshot: Snapshot) -> None:
        series.extend(snapshot.series)

    run(wards, test, keys_file=keys_file, outlet=outlet)
    assert {each.labels for each in series if each.metric == "raymlops_request_errors_total"} == {
        (model, "none", "none", "unauthorized") for model in ("ward-0", "ward-1")
    }


def test_a_page_of_an_origin_that_is_named_may_ask_every_model(
    wards: World, tmp_path: Path
) -> None:
    keys_file, page = tmp_path / "keys.json", {"origin": "https://app.example.com"}
    Keyring(keys_file).add(ApiKey(name="one", digest=digest_of("rml_one")))

    async def test(ward: Ward) -> None:
        asked = page | {
            "access-control-request-method": "POST",
            "access-control-request-headers": "content-type,x-api-key",
        }
        permit = await ward.client.options("/v2/models/ward-1/infer", headers=asked)
        assert permit.status_code == 200
        assert permit.headers["access-control-allow-headers"] == "content-type,x-api-key"
        assert ward.held == set()
        refused = await ward.ask("ward-1", headers=page)
        answer = await ward.ask("ward-1", headers=page | {"x-api-key": "rml_one"})
        assert (refused.status_code, answer.status_code) == (401, 200)
        for readable in (permit, refused, answer):
            assert readable.headers["access-control-allow-origin"] == page["origin"]
        unasked = await ward.client.options("/v2/models/ward-1/infer", headers=page)
        assert unasked.status_code == 401

    run(wards, test, keys_file=keys_file, cors=CorsPolicy(origins=(page["origin"],)))


def test_a_client_that_leaves_while_its_model_is_loaded_keeps_no_place(wards: World) -> None:
    async def test(ward: Ward) -> None:
        request = Request("GET", "/v2/models/ward-0")
        leaving = asyncio.create_task(answered(ward.pool._handle, request))
        await asyncio.sleep(0)
        leaving.cancel()
        for model in WARDS[1:]:
            probability(await ward.ask(model))
        assert len(ward.held) == 1

    run(wards, test, max_models=1)
