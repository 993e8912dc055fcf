"""Gradients on their way to shards in fewer bytes: nothing is lost, whatever the shards."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sklearn.datasets import load_digits

from raymlops.train.compression import Compressor, Float16, Int8, TopK
from raymlops.train.server.partition import Partition, divide
from raymlops.train.updaters.packing import Packing

IMAGES = load_digits().data.astype(np.float32) / 16 - 0.5
SHAPES = {"weight": (40, 64), "bias": (10,)}


def gradients(number: int) -> dict[str, NDArray[np.float32]]:
    rows = IMAGES[number * 41 : number * 41 + 41]
    return {"weight": rows[:40], "bias": rows[40, :10]}


def push(packing: Packing, partition: Partition, number: int) -> dict[str, NDArray[np.float32]]:
    """What the shards make of the payloads, by parameter."""
    given = gradients(number)
    found = {name: np.zeros(shape, np.float32) for name, shape in SHAPES.items()}
    for shard in range(partition.num_shards):
        values = partition.values_of(shard, given)[0]
        start, stop = partition.cuts[shard], partition.cuts[shard + 1]
        pieces = partition.pieces(start, stop)
        payload = packing.pack(values, start, pieces)
        np.testing.assert_array_equal(payload.gradient(), values)
        for piece in pieces:
            at = piece.offset - start
            flat = found[piece.name].reshape(-1)
            flat[piece.start : piece.stop] = values[at : at + piece.stop - piece.start]
    return found


def parts(num_shards: int) -> Partition:
    return divide({n: np.zeros(s, np.float32) for n, s in SHAPES.items()}, num_shards=num_shards)


def unsent(packing: Packing) -> Mapping[str, torch.Tensor]:
    found: Mapping[str, torch.Tensor] = packing.state_dict()["residuals"]
    return found


@pytest.mark.parametrize("compressor", [Float16(), Int8(), TopK(ratio=0.05)])
def test_what_is_not_sent_now_is_sent_later(compressor: Compressor) -> None:
    packing = Packing(compressor, SHAPES)
    total = {name: np.zeros(shape, np.float32) for name, shape in SHAPES.items()}
    for number in range(6):
        for name, values in push(packing, parts(3), number).items():
            total[name] += values
    for name in SHAPES:
        given = sum(gradients(number)[name] for number in range(6))
        np.testing.assert_allclose(
            total[name] + unsent(packing)[name].numpy(), given, rtol=0, atol=1e-5
        )


def test_payloads_are_small_and_counted() -> None:
    packing = Packing(Int8(), SHAPES)
    push(packing, parts(2), 0)
    whole_bytes = 4 * (40 * 64 + 10)
    assert 0.25 * whole_bytes < packing.sent_bytes < 0.3 * whole_bytes


def test_a_training_that_goes_on_sends_what_it_would_have_sent() -> None:
    before, after = Packing(TopK(ratio=0.1), SHAPES), Packing(TopK(ratio=0.1), SHAPES)
    for number in range(3):
        push(before, parts(2), number)
    after.load_state_dict(before.state_dict())
    assert after.state_dict()["step"] == 3
    for number in range(3, 6):
        expected, found = push(before, parts(2), number), push(after, parts(2), number)
        for name in SHAPES:
            np.testing.assert_array_equal(found[name], expected[name])


def test_another_number_of_shards_takes_over_all_that_was_not_sent() -> None:
    before, after = Packing(TopK(ratio=0.1), SHAPES), Packing(TopK(ratio=0.1), SHAPES)
    push(before, parts(2), 0)
    after.load_state_dict(before.state_dict())
    sent = push(after, parts(3), 1)
    for name in SHAPES:
        given = gradients(1)[name] + unsent(before)[name].numpy()
        np.testing.assert_allclose(
            sent[name] + unsent(after)[name].numpy(), given, rtol=0, atol=1e-6
        )
