"""Orders and batches: every row once, whoever reads, wherever it was interrupted."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from raymlops.data.loading import (
    Batch,
    BlockShuffle,
    InOrder,
    Order,
    Position,
    RowShuffle,
    epoch_batches,
)

ORDERS = {
    "in order": InOrder(num_rows=103),
    "rows": RowShuffle(num_rows=103, seed=1),
    "blocks": BlockShuffle(num_rows=103, block_rows=10, window_blocks=3, seed=1),
}


@pytest.fixture(params=ORDERS)
def order(request: pytest.FixtureRequest) -> Order:
    return ORDERS[request.param]


def rows_of(order: Order, epoch: int, start: int = 0) -> list[int]:
    return [int(row) for piece in order.pieces(epoch, start) for row in piece]


class TestEveryOrder:
    def test_has_each_row_once(self, order: Order) -> None:
        assert sorted(rows_of(order, 1)) == list(range(103))

    def test_is_the_same_again(self, order: Order) -> None:
        assert rows_of(order, 4) == rows_of(order, 4)

    @pytest.mark.parametrize("start", [0, 1, 29, 30, 31, 70, 102, 103])
    def test_goes_on_where_it_was_left(self, order: Order, start: int) -> None:
        assert rows_of(order, 2, start) == rows_of(order, 2)[start:]

    @pytest.mark.parametrize("world_size", [1, 2, 3, 5])
    def test_is_shared_by_workers_batch_by_batch(self, order: Order, world_size: int) -> None:
        whole = rows_of(order, 2)
        shares = [
            list(
                epoch_batches(
                    order, Position(epoch=2), batch_size=20, rank=rank, world_size=world_size
                )
            )
            for rank in range(world_size)
        ]
        assert [[batch.global_size for batch in share] for share in shares] == [
            [20] * 5 + [3]
        ] * world_size
        for step in range(6):
            batch = whole[20 * step : 20 * step + 20]
            for rank, share in enumerate(shares):
                assert share[step].rows.tolist() == batch[rank::world_size]


def test_epochs_and_seeds_differ() -> None:
    for make in (
        lambda seed: RowShuffle(num_rows=50, seed=seed),
        lambda seed: BlockShuffle(num_rows=50, block_rows=5, window_blocks=4, seed=seed),
    ):
        orders = [rows_of(make(seed), epoch) for seed in (1, 2) for epoch in (1, 2)]
        assert len({tuple(order) for order in orders}) == 4


def test_blocks_are_read_a_window_at_a_time() -> None:
    order = BlockShuffle(num_rows=95, block_rows=10, window_blocks=3, seed=3)
    pieces = list(order.pieces(1))
    blocks = [{int(row) // 10 for row in piece} for piece in pieces]
    assert [len(window) for window in blocks] == [3, 3, 3, 1]
    assert sorted(block for window in blocks for block in window) == list(range(10))
    assert all((np.diff(piece) != 1).any() for piece in pieces)


def test_the_order_of_rows_is_that_of_earlier_versions() -> None:
    # A training that is resumed, or told again, sees the rows it saw.
    assert rows_of(RowShuffle(num_rows=6, seed=5), 2) == [0, 4, 5, 3, 1, 2]
    blocks = BlockShuffle(num_rows=6, block_rows=2, window_blocks=2, seed=5)
    assert rows_of(blocks, 2) == [0, 1, 3, 2, 4, 5]


@given(data=st.data(), num_rows=st.integers(1, 200), seed=st.integers(0, 5))
def test_an_interrupted_training_sees_each_row_once(
    data: st.DataObject, num_rows: int, seed: int
) -> None:
    """With any number of workers and any batch size after each interruption."""
    order = data.draw(
        st.one_of(
            st.just(RowShuffle(num_rows=num_rows, seed=seed)),
            st.builds(
                BlockShuffle,
                num_rows=st.just(num_rows),
                block_rows=st.integers(1, 30),
                window_blocks=st.integers(1, 5),
                seed=st.just(seed),
            ),
        )
    )
    position, seen = Position(epoch=3), []
    while position.epoch == 3:
        world_size = data.draw(st.integers(1, 4))
        batch_size = data.draw(st.integers(1, 64))
        num_steps = data.draw(st.integers(1, 5))
        ranks = [
            epoch_batches(order, position, batch_size=batch_size, rank=rank, world_size=world_size)
            for rank in range(world_size)
        ]
        for step in _some(ranks, num_steps):
            together = np.empty(step[0].global_size, np.int64)
            for rank, batch in enumerate(step):
                together[rank::world_size] = batch.rows
            seen += together.tolist()
            (position,) = {batch.position for batch in step}
    assert seen == rows_of(order, 3)
    assert position == Position(epoch=4, row=0)


def _some(ranks: list[Iterator[Batch]], num_steps: int) -> Iterator[tuple[Batch, ...]]:
    for _, step in zip(range(num_steps), zip(*ranks, strict=True), strict=False):
        yield step


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batch_size": 0}, "batch_size is 0 and rank 0 of 1 workers"),
        ({"rank": 2, "world_size": 2}, "batch_size is 8 and rank 2 of 2 workers"),
        ({"start": Position(row=51)}, "row=51.* is not within the 50 rows of the order"),
    ],
)
def test_impossible_batches_are_refused(changes: dict[str, object], message: str) -> None:
    arguments = {"start": Position(), "batch_size": 8, **changes}
    with pytest.raises(ValueError, match=message):
        list(epoch_batches(InOrder(num_rows=50), **arguments))  # type: ignore[arg-type]


def test_windows_and_blocks_without_rows_are_refused() -> None:
    with pytest.raises(ValueError, match="block_rows is 0 and window_blocks 2; both are at least"):
        BlockShuffle(num_rows=5, block_rows=0, window_blocks=2)
