from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np

from raymlops.models import PROBABILITY
from raymlops.serve import BatchPolicy
from raymlops.serve.batching import Batcher
from raymlops.serve.batching.shares import Batch, Share
from raymlops.serve.exchange import Exchange, runs_of
from raymlops.serve.tap.blocks import blocks_of
from raymlops.serve.tap.summarising import summarise
from raymlops.serve.versions.loaded import LoadedVersion
from tests.serve.conftest import MODEL, World

MIDNIGHT = datetime(2013, 7, 2, tzinfo=UTC)


def mates(world: World, number: int) -> list[Exchange]:
    """Requests of two rows each that ran as one batch just before midnight."""
    bundle = world.bundles["1.0.0"]
    columns = world.rows(0, 2 * number)
    batch = Batch(columns, bundle.predict(columns))
    version = LoadedVersion(
        version="1.0.0", bundle=bundle, batcher=Batcher(bundle.predict, BatchPolicy())
    )
    return [
        Exchange(
            at=MIDNIGHT.timestamp() - 1,
            id=f"r-{index}",
            event_time=MIDNIGHT - timedelta(seconds=1),
            arm="champion",
            version=version,
            num_rows=2,
            outputs=Share(batch, 2 * index, 2 * index + 2),
            status=200,
        )
        for index in range(number)
    ]


def test_mates_of_a_batch_lie_together(world: World) -> None:
    exchanges = mates(world, 4)
    (block,) = blocks_of(runs_of(exchanges))
    assert block.ids == ["r-0", "r-1", "r-2", "r-3"]
    assert block.num_rows.tolist() == [2, 2, 2, 2]
    assert block.size == 8
    assert block.scores is not None
    assert len(block.scores) == 8


def test_mates_of_two_days_arms_or_fates_lie_apart(world: World) -> None:
    exchanges = mates(world, 8)
    for exchange in exchanges[2:]:
        exchange.event_time = MIDNIGHT
    exchanges[3].arm = "canary"
    exchanges[5].status = 429  # refused
    exchanges[6].status = 500
    blocks = list(blocks_of(runs_of(exchanges)))
    assert [block.ids for block in blocks] == [
        ["r-0", "r-1"],
        ["r-2"],
        ["r-3"],
        ["r-4"],
        ["r-6"],
        ["r-7"],
    ]
    assert [block.day.day for block in blocks] == [1, 2, 2, 2, 2, 2]
    assert [block.scores is None for block in blocks] == [False] * 4 + [True, False]


def test_each_day_has_its_rows_and_each_request_its_times(world: World) -> None:
    exchanges = mates(world, 3)
    exchanges[2].event_time = MIDNIGHT
    summary = summarise(list(blocks_of(runs_of(exchanges))), model=MODEL, replica="r", sequence=0)
    assert [(pane.day.day, pane.num_rows) for pane in summary.panes] == [(1, 4), (2, 2)]
    assert summary.predictions.served_at.tolist() == [MIDNIGHT.timestamp() - 1] * 3
    moved = np.subtract(summary.predictions.event_time, MIDNIGHT.timestamp())
    assert moved.tolist() == [-1, -1, 0]


def test_who_tells_no_time_is_counted_when_it_was_served(world: World) -> None:
    exchanges = mates(world, 2)
    for exchange in exchanges:
        exchange.event_time = None
    summary = summarise(list(blocks_of(runs_of(exchanges))), model=MODEL, replica="r", sequence=0)
    assert [pane.day.day for pane in summary.panes] == [1]
    assert summary.predictions.event_time.tolist() == summary.predictions.served_at.tolist()


def test_those_around_a_row_whose_client_left_lie_apart(world: World) -> None:
    first, _, last = mates(world, 3)
    blocks = list(blocks_of(runs_of([first, last])))
    assert [block.ids for block in blocks] == [["r-0"], ["r-2"]]
    for block, exchange in zip(blocks, (first, last), strict=True):
        assert block.scores is not None
        assert exchange.outputs is not None
        assert block.scores.tolist() == exchange.outputs[PROBABILITY].tolist()
