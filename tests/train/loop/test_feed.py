"""Rows on their way into a training: their order, reading ahead, what a user may get wrong."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from raymlops.data.loading import (
    ArraySource,
    BlockShuffle,
    Columns,
    MappedSource,
    Position,
    RowShuffle,
    Source,
    write_arrays,
)  # fmt: skip
from raymlops.errors import TrainingError
from raymlops.train.loop.feed import Feed
from raymlops.train.loop.loop import Loop
from raymlops.train.plan import ParallelPlan
from raymlops.train.plan.seat import Seat
from raymlops.train.spec import TrainSpec
from raymlops.train.spec.loading import LoadingSpec, make_order
from raymlops.train.spec.sources import Sources
from tests.train import models
from tests.train.specs import MLP

SPEC = replace(MLP, epochs=2, max_steps=None)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    train, _ = models.digits(333)
    write_arrays(tmp_path / "digits.rows", train.columns, rows_per_chunk=32)
    return tmp_path / "digits.rows"


def trained(spec: TrainSpec, source: Source) -> dict[str, torch.Tensor]:
    loop = Loop(spec, Seat(), sources=Sources(train=source))
    loop.run()
    return loop.weights()


def reading_threads() -> list[str]:
    return [t.name for t in threading.enumerate() if t.name.startswith("raymlops-loader")]


@pytest.mark.parametrize("num_threads", [0, 1, 3])
def test_a_file_trains_what_the_same_rows_in_memory_train(file: Path, num_threads: int) -> None:
    expected = trained(SPEC, models.digits(333)[0])
    loading = LoadingSpec(num_threads=num_threads, num_ahead=3)
    with MappedSource(file) as source:
        found = trained(replace(SPEC, loading=loading), source)
    assert all(torch.equal(found[name], weight) for name, weight in expected.items())
    assert reading_threads() == []


def test_blocks_are_the_chunks_of_a_file(file: Path) -> None:
    loading = LoadingSpec(order="blocks", window_blocks=2)
    with MappedSource(file) as source:
        order = make_order(loading, source, seed=7)
        found = trained(replace(SPEC, loading=loading), source)
    assert order == BlockShuffle(num_rows=333, block_rows=32, window_blocks=2, seed=7)
    in_memory = replace(SPEC, loading=replace(loading, block_rows=32))
    expected = trained(in_memory, models.digits(333)[0])
    by_rows = trained(SPEC, models.digits(333)[0])
    assert all(torch.equal(found[name], weight) for name, weight in expected.items())
    assert any(not torch.equal(found[name], weight) for name, weight in by_rows.items())


def test_rows_in_order_are_those_of_the_source() -> None:
    order = make_order(LoadingSpec(order="none"), models.digits(333)[0], seed=7)
    assert np.concatenate(list(order.pieces(3))).tolist() == list(range(333))


def test_blocks_of_a_source_without_chunks_need_a_size() -> None:
    with pytest.raises(TrainingError, match=r"ArraySource has no chunks: set loading\.block_rows"):
        make_order(LoadingSpec(order="blocks"), models.digits(333)[0], seed=0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"block_rows": 32}, "block_rows is 32 and order rows"),
        ({"order": "blocks", "block_rows": 0}, "block_rows is 0"),
        ({"num_threads": -1}, "num_threads -1"),
        ({"num_ahead": 0}, "num_ahead is 0"),
    ],
)
def test_what_cannot_be_is_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LoadingSpec(**changes)  # type: ignore[arg-type]


class Torn(ArraySource):
    """A file whose last rows cannot be read."""

    def take_into(self, rows: NDArray[np.int64], into: Columns) -> None:
        if rows.max() > 300:
            raise OSError("input/output error")
        super().take_into(rows, into)


def test_what_reading_raises_ends_the_training_and_its_threads() -> None:
    train, _ = models.digits(333)
    spec = replace(SPEC, loading=LoadingSpec(order="none", num_threads=2))
    with pytest.raises(OSError, match="input/output error"):
        trained(spec, Torn(train.columns))
    assert reading_threads() == []


def test_a_worker_without_rows_goes_through_as_many_pieces_as_the_others() -> None:
    source, _ = models.digits(11)
    spec = replace(SPEC, batch_size=5, accumulation=2, seed=4)
    seats = [Seat(plan=ParallelPlan(data=3), rank=rank) for rank in range(3)]
    (order,) = RowShuffle(num_rows=11, seed=4).pieces(1)
    counted = []
    for seat in seats:
        feed = Feed(spec, seat, source, RowShuffle(num_rows=11, seed=4))
        last = list(feed.epoch(Position(row=10)))[-1]
        counted.append([rows.counts for rows in feed.pieces(last)])
        for rows in feed.pieces(last):
            assert torch.equal(rows.inputs[0][0], torch.from_numpy(source.columns[0][order[10]]))
    assert counted == [[True], [False], [False]]


def test_a_piece_is_made_of_the_same_rows_under_every_plan() -> None:
    source, _ = models.digits(11)
    spec = replace(SPEC, batch_size=11, accumulation=3, seed=4)

    def rows(plan: ParallelPlan) -> list[set[bytes]]:
        found: list[set[bytes]] = [set(), set(), set()]
        for rank in range(plan.data):
            seat = Seat(plan=plan, rank=rank)
            feed = Feed(spec, seat, source, RowShuffle(num_rows=11, seed=4))
            (batch,) = feed.epoch(Position())
            for number, piece in enumerate(feed.pieces(batch)):
                if piece.counts:
                    found[number] |= {row.numpy().tobytes() for row in piece.inputs[0]}
        return found

    alone = rows(ParallelPlan())
    assert [len(piece) for piece in alone] == [4, 4, 3]
    for num_workers in (2, 3, 4, 5):
        assert rows(ParallelPlan(data=num_workers)) == alone
