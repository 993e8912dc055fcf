"""Six models in two places: everybody is answered by their own, whoever is held."""

from __future__ import annotations

import asyncio
import gc
import os
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from raymlops.serve.web import Request, answered
from tests.serve.conftest import VERSIONS, World
from tests.serve.replica.wards import WARDS, Ward, probability, run


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
