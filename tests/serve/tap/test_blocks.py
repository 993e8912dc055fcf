from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np

from raymlops.data.profile import SCORE
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
    assert [len(scores) for scores in block.scores] == [8]


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
    assert [block.answered for block in blocks] == [True] * 4 + [False, True]
    assert [len(block.scores) for block in blocks] == [1, 1, 1, 1, 0, 1]


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


def test_rows_of_several_batches_lie_in_order(world: World) -> None:
    exchanges = [*mates(world, 3), *mates(world, 2)]
    for exchange in exchanges:
        exchange.version = exchanges[0].version
    (block,) = blocks_of(runs_of(exchanges))
    assert [len(scores) for scores in block.scores] == [6, 4]
    summary = summarise([block], model=MODEL, replica="r", sequence=0)
    (pane,) = summary.panes
    assert pane.num_rows == 10
    assert summary.predictions.scores.tolist() == _scores_of(exchanges)


def test_the_row_of_a_client_that_left_is_left_out(world: World) -> None:
    first, _, last = mates(world, 3)
    (block,) = blocks_of(runs_of([first, last]))
    assert block.ids == ["r-0", "r-2"]
    summary = summarise([block], model=MODEL, replica="r", sequence=0)
    assert summary.predictions.scores.tolist() == _scores_of([first, last])
    (pane,) = summary.panes
    profile = world.bundles["1.0.0"].profile
    assert pane.cells[profile.cells[SCORE]].sum() == pane.num_rows == 4


def test_what_ran_alone_lies_beside_what_ran_in_a_batch(world: World) -> None:
    alone, *others = mates(world, 3)
    assert isinstance(alone.outputs, Share)
    alone.columns, alone.outputs = alone.outputs.columns, dict(alone.outputs)
    (block,) = blocks_of(runs_of([*others, alone]))
    assert [len(scores) for scores in block.scores] == [4, 2]
    summary = summarise([block], model=MODEL, replica="r", sequence=0)
    assert summary.predictions.scores.tolist() == _scores_of([*others, alone])


def _scores_of(exchanges: list[Exchange]) -> list[float]:
    found = [each.outputs[PROBABILITY] for each in exchanges if each.outputs is not None]
    return [float(score) for scores in found for score in scores]
