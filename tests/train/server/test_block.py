"""An update is in a block whole or not at all, wherever it is cut off."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from raymlops.train.server import Adam, Optimizer, Sgd
from raymlops.train.server.arena import Arena, NodeShare
from raymlops.train.server.block import CHUNK_ELEMENTS, Block, DenseBlock, Entry, Push, RowBlock
from raymlops.train.server.memory import SharedMemory
from raymlops.train.server.partition import divide
from raymlops.train.server.rows import Rows, mean_rows, sum_rows

IMAGES = load_digits().data.astype(np.float32) / 16 - 0.5
TABLE = IMAGES[:11]


@dataclass(frozen=True)
class Cut(Optimizer):
    """Plain descent that dies in the step over piece number `at`."""

    at: int
    pieces: list[int]
    num_states: ClassVar[int] = 1

    def step(
        self,
        old: Sequence[torch.Tensor],
        new: Sequence[torch.Tensor],
        gradient: torch.Tensor,
        number: int,
    ) -> None:
        self.pieces.append(len(gradient))
        torch.add(old[1], 1, out=new[1])
        torch.sub(old[0], gradient, out=new[0])
        if len(self.pieces) == self.at:
            raise KeyboardInterrupt


def dense(size: int, optimizer: Optimizer, memory: SharedMemory | None = None) -> DenseBlock:
    partition = divide({"vector": np.zeros(size, np.float32)}, num_shards=1)
    share = NodeShare(partition=partition, shards=range(1))
    kept = memory or SharedMemory.create(Arena.size_bytes(share, optimizer.num_states))
    arena = Arena(share, optimizer.num_states, kept)
    return DenseBlock(arena.header(0, 0), arena.buffers(0, 0), optimizer)


def rows(optimizer: Optimizer, memory: SharedMemory) -> RowBlock:
    arena = Arena(SHARE, optimizer.num_states, memory)
    return RowBlock(arena.header(0, 1), arena.buffers(0, 1), optimizer)


SHARE = NodeShare(
    partition=divide({"table": TABLE}, num_shards=1, tables=["table"]), shards=range(1)
)


def ones(size: int, sequence: int, worker: int = 0) -> Push[np.ndarray]:
    return Push(worker=worker, sequence=sequence, gradient=np.ones(size, np.float32))


def numbers(block: Block) -> list[list[float]]:
    return [np.unique(each).tolist() for each in block.buffer(block.version)]


@pytest.mark.parametrize("at", [1, 2, 3])
def test_a_step_that_is_cut_off_leaves_what_was_before(at: int) -> None:
    size = 2 * CHUNK_ELEMENTS + 16
    block = dense(size, Cut(at=3 + at, pieces=[]))
    block.update([ones(size, 1)])
    with pytest.raises(KeyboardInterrupt):
        block.update([ones(size, 2)])
    assert (block.version, int(block.sequences[0])) == (1, 1)
    assert numbers(block) == [[-1.0], [1.0]]
    block.update([ones(size, 2)])
    assert (block.version, int(block.sequences[0])) == (2, 2)
    assert numbers(block) == [[-2.0], [2.0]]
    assert block.journal() == (
        Entry(version=1, worker=0, sequence=1),
        Entry(version=2, worker=0, sequence=2),
    )


def test_a_step_that_nobody_confirms_is_not_taken() -> None:
    block = dense(32, Sgd(learning_rate=1.0))

    def refuse(version: int) -> None:
        raise ConnectionError(version)

    with pytest.raises(ConnectionError):
        block.update([ones(32, 1)], refuse)
    assert (block.version, block.journal()) == (0, ())
    block.update([ones(32, 1)], lambda version: None)
    assert numbers(block) == [[-1.0]]


def test_the_mean_is_summed_in_the_order_of_workers() -> None:
    block = dense(64, Sgd(learning_rate=1.0))
    pushes = [Push(worker=each, sequence=1, gradient=IMAGES[each]) for each in range(3)]
    block.update(pushes)
    expected = -((IMAGES[0] + IMAGES[1] + IMAGES[2]) / 3)
    assert np.array_equal(block.buffer(1)[0], expected)
    assert block.sequences[:4].tolist() == [1, 1, 1, 0]


@pytest.mark.parametrize("size", [16, 1024, 70_000])
def test_the_square_of_a_mean_is_summed_as_if_in_double_precision(size: int) -> None:
    """Of squares whose sum in single precision loses what comes last."""
    images = load_digits().data.astype(np.float32).reshape(-1)[:size]
    block = dense(size, Sgd(learning_rate=1.0))
    pushes = [Push(worker=w, sequence=1, gradient=images * (w + 1)) for w in range(3)]
    expected = float(((2.0 * images.astype(np.float64)) ** 2).sum())
    assert block.square(pushes) == pytest.approx(expected, rel=2e-7)


@pytest.mark.parametrize("scale", [1e18, 1e20, 1e34])
def test_the_square_of_large_gradients_is_finite(scale: float) -> None:
    """It was infinite above 1e19, and a step that was to be clipped one on zeros."""
    images = load_digits().data.astype(np.float32).reshape(-1)[:70_000]
    expected = float((images.astype(np.float64) ** 2).sum())
    block = dense(70_000, Sgd(learning_rate=1.0))
    push = Push(worker=0, sequence=1, gradient=images * np.float32(scale))
    assert block.square([push]) / scale / scale == pytest.approx(expected, rel=2e-7)


def test_rows_stay_right_over_a_restart() -> None:
    """A block that is opened anew does not know which rows its other buffer lacks."""
    adam = Adam(learning_rate=0.01)
    memory = SharedMemory.create(Arena.size_bytes(SHARE, adam.num_states))
    kept, reopened = rows(adam, memory), rows(adam, memory)
    kept.load(TABLE)
    copy = SharedMemory.create(Arena.size_bytes(SHARE, adam.num_states))
    undisturbed = rows(adam, copy)
    undisturbed.load(TABLE)
    for number in range(1, 12):
        keys = np.unique([number % 11, number * 5 % 11])
        push = Push(
            worker=0, sequence=number, gradient=Rows(keys, IMAGES[number : number + len(keys)])
        )
        undisturbed.update([push])
        if number % 3 == 0:
            reopened = rows(adam, memory)
        reopened.update([push])
    for mine, theirs in zip(reopened.buffer(11), undisturbed.buffer(11), strict=True):
        assert np.array_equal(mine, theirs)
    memory.close()
    copy.close()


def test_a_block_can_be_copied_to_another() -> None:
    adam = Adam(learning_rate=0.01)
    first, second = dense(64, adam), dense(64, adam)
    for number in (1, 2, 3):
        first.update([Push(worker=7, sequence=number, gradient=IMAGES[number])])
    second.restore(first.copy())
    assert second.journal() == first.journal()
    for block in (first, second):
        block.update([Push(worker=7, sequence=4, gradient=IMAGES[4])])
    assert np.array_equal(first.buffer(4)[0], second.buffer(4)[0])


def test_equal_keys_are_summed_and_missing_ones_count_as_nothing() -> None:
    summed = sum_rows(np.array([5, 1, 5]), np.array([[1.0], [2], [4]]))
    assert (summed.keys.tolist(), summed.values.tolist()) == ([1, 5], [[2.0], [5.0]])
    mean = mean_rows([summed, Rows(np.array([1, 7]), np.array([[4.0], [6.0]]))])
    assert (mean.keys.tolist(), mean.values.tolist()) == ([1, 5, 7], [[3.0], [2.5], [3.0]])
