from __future__ import annotations

import gc
import threading
import traceback
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
from numpy.typing import NDArray

from raymlops.data.loading import (
    ArraySource,
    BlockShuffle,
    Columns,
    Loader,
    MappedSource,
    Position,
    RowShuffle,
    Source,
    Tensors,
    as_arrays,
)
from raymlops.errors import IntegrityError

ORDER = RowShuffle(num_rows=1797, seed=3)


def loader(source: Source, **changes: object) -> Loader[Columns]:
    settings = {"order": ORDER, "deliver": as_arrays, "batch_size": 100, **changes}
    return Loader(source=source, **settings)  # type: ignore[arg-type]


def loading_threads() -> list[threading.Thread]:
    return [each for each in threading.enumerate() if each.name.startswith("raymlops-loader")]


@pytest.fixture(autouse=True)
def _leaves_no_thread() -> Iterator[None]:
    yield
    assert loading_threads() == []


@dataclass
class Watched:
    """Rows that are their own numbers; every read is noted, and waits until it may go on."""

    num_rows: int = 1797
    reads: list[int] = field(default_factory=list)
    may_go_on: threading.Event = field(default_factory=threading.Event)
    read: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))

    def __len__(self) -> int:
        return self.num_rows

    def take(self, rows: NDArray[np.int64]) -> Columns:
        self.reads.append(int(rows[0]))
        self.read.release()
        assert self.may_go_on.wait(timeout=30)
        return (rows,)


@pytest.mark.parametrize("num_threads", [0, 1, 3])
def test_an_epoch_is_the_batches_in_their_order(digits: Columns, num_threads: int) -> None:
    (order,) = ORDER.pieces(5)
    batches = list(loader(ArraySource(digits), num_threads=num_threads).epoch(Position(epoch=5)))
    assert [batch.global_size for batch in batches] == [100] * 17 + [97]
    for number, batch in enumerate(batches):
        rows = order[100 * number : 100 * number + 100]
        np.testing.assert_array_equal(batch.columns[0], digits[0][rows])
        np.testing.assert_array_equal(batch.columns[1], digits[1][rows])
    assert batches[-1].position == Position(epoch=6)
    assert loading_threads() == []


def test_a_worker_goes_on_from_the_position_of_a_batch(digits: Columns) -> None:
    shares = [loader(ArraySource(digits), rank=rank, world_size=2) for rank in range(2)]
    whole = [list(share.epoch(Position(epoch=2))) for share in shares]
    position = whole[0][6].position
    assert position == Position(epoch=2, row=700)
    for share, before in zip(shares, whole, strict=True):
        after = list(share.epoch(position))
        assert len(after) == 11
        np.testing.assert_array_equal(after[0].columns[1], before[7].columns[1])


def test_no_more_is_read_than_may_wait() -> None:
    source = Watched()
    source.may_go_on.set()
    epoch = loader(source, num_threads=2, num_ahead=3).epoch(Position())
    next(epoch)
    for _ in range(3):
        assert source.read.acquire(timeout=30)
    assert len(source.reads) == 3
    next(epoch)
    assert source.read.acquire(timeout=30)
    assert len(source.reads) == 4
    epoch.close()


def test_threads_read_at_once() -> None:
    source = Watched()
    epoch = loader(source, num_threads=3).epoch(Position())
    first = threading.Thread(target=lambda: next(epoch))
    first.start()
    for _ in range(3):  # while none of them has ended
        assert source.read.acquire(timeout=30)
    source.may_go_on.set()
    first.join()
    epoch.close()


@pytest.mark.parametrize("num_threads", [0, 2])
def test_what_a_read_raises_is_raised_in_its_turn(file: Path, num_threads: int) -> None:
    content = bytearray(file.read_bytes())
    content[-1] ^= 1  # the label of row 1,796
    file.write_bytes(content)
    (order,) = ORDER.pieces(1)
    # The first row of the last chunk that is asked for.
    at = int(np.flatnonzero(order >= 1620)[0])
    with MappedSource(file) as source:
        epoch = loader(source, batch_size=1, num_threads=num_threads).epoch(Position())
        good = []
        with pytest.raises(IntegrityError, match="chunk 9 of 10") as raised:
            good.extend(epoch)
    assert len(good) == at
    # The place in the source is told, not only that some thread failed.
    assert "_verify" in {frame.name for frame in traceback.extract_tb(raised.value.__traceback__)}


def test_a_loop_that_breaks_off_leaves_no_thread_and_no_file(file: Path) -> None:
    before = psutil.Process().num_fds()
    with MappedSource(file) as source:
        for batch in loader(source).epoch(Position()):
            assert batch.global_size == 100
            break
        assert loading_threads() == []
    assert psutil.Process().num_fds() == before


def test_a_loop_that_dies_leaves_no_thread(file: Path) -> None:
    def train(source: Source) -> None:
        for batch in loader(source).epoch(Position()):
            raise FloatingPointError(f"the loss of {batch.global_size} rows is nan")

    with MappedSource(file) as source:
        with pytest.raises(FloatingPointError) as raised:
            train(source)
        # Its traceback still holds the frame of the loop, and with it all that was in it.
        assert raised.value.__traceback__ is not None
        assert loading_threads() == []


def test_an_epoch_that_is_never_read_starts_nothing(digits: Columns) -> None:
    epoch = loader(ArraySource(digits)).epoch(Position())
    assert loading_threads() == []
    del epoch
    gc.collect()


def test_a_worker_without_rows_in_the_last_batch_gets_empty_columns() -> None:
    source = ArraySource([np.arange(9)])
    order = RowShuffle(num_rows=9)
    share = loader(source, order=order, batch_size=8, rank=1, world_size=2)
    batches = list(share.epoch(Position()))
    assert [(len(batch.columns[0]), batch.global_size) for batch in batches] == [(4, 8), (0, 1)]


class TestTensors:
    def test_hold_the_rows_of_any_source(self, file: Path, digits: Columns) -> None:
        class Plain:
            """A source that cannot fill arrays of others."""

            def __len__(self) -> int:
                return 1797

            def take(self, rows: NDArray[np.int64]) -> Columns:
                return tuple(column[rows] for column in digits)

        rows = np.array([1796, 3, 3])
        with MappedSource(file) as mapped:
            for source in (Plain(), ArraySource(digits), mapped):
                images, labels = Tensors()(source, rows)
                assert (images.dtype, labels.dtype) == (torch.float32, torch.int64)
                np.testing.assert_array_equal(images.numpy(), digits[0][rows])
                np.testing.assert_array_equal(labels.numpy(), digits[1][rows])

    def test_are_pinned_where_there_is_a_gpu_and_refused_elsewhere(
        self, file: Path, digits: Columns
    ) -> None:
        if not torch.cuda.is_available():
            with pytest.raises(ValueError, match="pin_memory is for copies to a GPU, and torch"):
                Tensors(pin_memory=True)
            return
        with MappedSource(file) as source:
            images, _ = Tensors(pin_memory=True)(source, np.array([4, 2]))
        assert images.is_pinned()
        np.testing.assert_array_equal(images.numpy(), digits[0][[4, 2]])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"order": BlockShuffle(num_rows=1790, block_rows=9, window_blocks=2)},
            "the order is one of 1790 rows, the source has 1797",
        ),
        ({"num_threads": -1}, "num_threads is -1 and num_ahead 4"),
        ({"num_ahead": 0}, "num_threads is 2 and num_ahead 0"),
    ],
)
def test_impossible_settings_are_refused(
    digits: Columns, changes: dict[str, object], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        loader(ArraySource(digits), **changes)
