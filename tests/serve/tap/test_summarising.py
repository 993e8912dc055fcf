"""What was answered becomes counts and predictions."""

from __future__ import annotations

from datetime import date, timedelta

import numpy as np
import pytest

from raymlops.ledger import PackedPredictions
from raymlops.models import PROBABILITY
from raymlops.serve import BatchPolicy, TapSummary
from raymlops.serve.batching import Batcher
from raymlops.serve.exchange import Exchange, runs_of
from raymlops.serve.tap.blocks import blocks_of
from raymlops.serve.tap.latency import bucket
from raymlops.serve.tap.summarising import summarise
from raymlops.serve.versions.loaded import LoadedVersion
from tests import irises
from tests.serve.conftest import MODEL, World
from tests.serve.coroutines import run
from tests.serve.tap.traffic import JULY_1, JULY_2, Monitor, Traffic, finish, make


def summary_of(*exchanges: Exchange) -> TapSummary:
    """The one message that a monitor gets of them."""
    monitor = Monitor()

    async def test() -> None:
        recorder = make(monitor)
        recorder.note(runs_of(exchanges))
        await finish(recorder)

    run(test)
    (summary,) = monitor.summaries
    return summary


def test_rows_become_counts_by_arm_and_day(world: World) -> None:
    traffic = Traffic(world)
    first, second = summary_of(
        traffic.exchange(slice(0, 5), latency_s=0.001),
        traffic.exchange(slice(5, 20), latency_s=0.1),
        traffic.exchange(slice(20, 30), time=JULY_2),
        traffic.exchange(slice(30, 40), time=JULY_2, status=500),
        traffic.exchange(slice(40, 50), time=JULY_2, status=413),
    ).panes
    assert (first.version, first.arm, first.day) == ("1.0.0", "champion", date(2013, 7, 1))
    assert (first.num_rows, first.num_failed, sum(first.latency)) == (20, 0, 2)
    assert first.latency[bucket(0.1)] == 1
    assert (second.day, second.num_rows, second.num_failed) == (date(2013, 7, 2), 10, 1)
    bundle, columns = traffic.version.bundle, world.rows(0, 20)
    wanted = bundle.profile.count(columns, bundle.predict(columns)[PROBABILITY])
    assert first.cells.tolist() == wanted.tolist()


def test_predictions_carry_scores_in_row_order(world: World) -> None:
    exchange = Traffic(world).exchange(slice(0, 7))
    (prediction,) = summary_of(exchange).predictions
    assert exchange.outputs is not None
    scores = np.frombuffer(prediction.scores, "<f4")
    np.testing.assert_array_equal(scores, exchange.outputs[PROBABILITY])
    assert (prediction.request_id, prediction.event_time) == ("r-1", JULY_1)
    assert (prediction.num_rows, prediction.replica) == (7, "r")


def test_packed_predictions_are_those_of_each_request(world: World) -> None:
    traffic = Traffic(world)
    exchanges = [
        traffic.exchange(slice(0, 3), time=JULY_1),
        traffic.exchange(slice(3, 4), time=JULY_2 + timedelta(microseconds=123457)),
        traffic.exchange(slice(4, 9)),
    ]
    exchanges[1].arm = "canary"
    packed = summary_of(*exchanges).predictions
    assert list(PackedPredictions.of(list(packed))) == list(packed)
    assert [packed[index] for index in (0, 1, -1)] == list(packed)
    assert packed[1:] == tuple(packed)[1:]
    for prediction, exchange in zip(packed, exchanges, strict=True):
        assert exchange.outputs is not None
        assert prediction.scores == exchange.outputs[PROBABILITY].astype("<f4").tobytes()
        assert prediction.event_time == exchange.event_time
        assert prediction.served_at.timestamp() == pytest.approx(exchange.at, abs=1e-6)
        assert (prediction.arm, prediction.version) == (exchange.arm, "1.0.0")


def test_a_summary_comes_out_of_its_bytes_as_it_was(world: World) -> None:
    traffic = Traffic(world)
    exchanges = [
        traffic.exchange(slice(0, 300)),
        traffic.exchange(slice(300, 301), time=JULY_2),
        traffic.exchange(slice(301, 310), time=JULY_2, status=500),
    ]
    sent = summarise(
        list(blocks_of(runs_of(exchanges))),
        model=MODEL,
        replica="r",
        sequence=7,
        slice_by=("size", "radius"),
    )
    came = TapSummary.from_bytes(sent.to_bytes())
    assert (came.model, came.replica, came.sequence) == (MODEL, "r", 7)
    assert list(came.predictions) == list(sent.predictions)
    assert came.predictions[0].slices is not None
    for mine, theirs in zip(came.panes, sent.panes, strict=True):
        assert vars(mine) | {"cells": mine.cells.tolist()} == vars(theirs) | {
            "cells": theirs.cells.tolist()
        }


def test_a_message_holds_versions_of_several_classes_and_of_none(world: World) -> None:
    plain = Traffic(world)
    bundle = irises.bundle()
    version = LoadedVersion(
        version="2.0.0", bundle=bundle, batcher=Batcher(bundle.predict, BatchPolicy())
    )
    flowers = {name: values[:4] for name, values in irises.columns().items()}
    asked = Exchange(
        id="flowers",
        event_time=JULY_1,
        arm="canary",
        version=version,
        columns=flowers,
        num_rows=4,
        outputs=bundle.predict(flowers),
        status=200,
    )
    summary = summary_of(plain.exchange(slice(0, 2)), asked, plain.exchange(slice(2, 3)))
    kept = {each.request_id: each for each in summary.predictions}
    assert [kept[name].width for name in ("r-1", "flowers", "r-2")] == [1, 3, 1]
    wanted = bundle.predict(flowers)["probabilities"]
    assert kept["flowers"].scores == wanted.tobytes()
    pane = next(each for each in summary.panes if each.arm == "canary")
    said = dict(zip(irises.SPECIES, pane.cells[bundle.profile.cells["score"]], strict=False))
    assert said == {"setosa": 4, "versicolor": 0, "virginica": 0}
    assert pane.cells[bundle.profile.cells["score confidence"]].sum() == 4


def test_failures_alone_make_an_empty_pane(world: World) -> None:
    traffic = Traffic(world)
    (pane,) = summary_of(traffic.exchange(slice(0, 3), status=503)).panes
    assert (pane.num_rows, pane.num_failed, pane.cells.sum()) == (0, 1, 0)
    assert len(pane.cells) == traffic.version.bundle.profile.num_cells


def test_an_answer_that_could_not_be_written_counts_as_failed(world: World) -> None:
    exchange = Traffic(world).exchange(slice(0, 3))
    exchange.status = 500
    summary = summary_of(exchange)
    (pane,) = summary.panes
    assert (pane.num_rows, pane.num_failed) == (0, 1)
    assert len(summary.predictions) == 0
