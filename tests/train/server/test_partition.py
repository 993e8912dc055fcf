"""Parameters are cut into equal parts, and every element lies on one shard."""

from __future__ import annotations

import numpy as np
import pytest

from raymlops.train.server.arena import shares
from raymlops.train.server.partition import Piece, divide, place

PARAMETERS = {
    "weight": np.zeros((10, 10), np.float32),
    "carrier": np.zeros((7, 4), np.float32),
    "bias": np.zeros(10, np.float32),
}


def test_large_parameters_are_cut_and_small_ones_are_not() -> None:
    partition = divide(PARAMETERS, num_shards=2, tables=["carrier"])
    assert partition.cuts == (0, 64, 128)
    assert partition.offsets == {"weight": 0, "bias": 112}
    assert partition.pieces(0, 64) == (Piece(name="weight", start=0, stop=64, offset=0),)
    assert partition.pieces(64, 128) == (
        Piece(name="weight", start=64, stop=100, offset=64),
        Piece(name="bias", start=0, stop=10, offset=112),
    )
    assert partition.size_bytes == 4 * (100 + 28 + 10)


def test_rows_are_dealt_in_turn() -> None:
    partition = divide(PARAMETERS, num_shards=3, tables=["carrier"])
    (table,) = partition.tables
    assert [partition.num_rows(table, shard) for shard in range(3)] == [3, 2, 2]


def test_shards_are_spread_over_nodes_and_neighbours_stay_together() -> None:
    assert place(4, ["a", "b"]) == ("a", "a", "b", "b")
    assert place(3, ["a", "b"]) == ("a", "a", "b")
    assert place(1, ["a", "b"]) == ("a",)
    found = shares(divide(PARAMETERS, num_shards=3, tables=["carrier"]), place(3, ["a", "b"]))
    assert {node: share.shards for node, share in found.items()} == {
        "a": range(2),
        "b": range(2, 3),
    }
    with pytest.raises(ValueError, match="no node"):
        place(1, [])


@pytest.mark.parametrize(
    ("parameters", "num_shards", "tables", "message"),
    [
        (PARAMETERS, 9, ["carrier"], "num_shards is 9, .* at least 1 and at most 8"),
        (PARAMETERS, 0, [], "num_shards is 0"),
        (PARAMETERS, 1, ["carier"], r"tables are \['carier'\], but .*'bias', 'carrier', 'weight'"),
        (PARAMETERS, 1, ["bias"], r"table 'bias' has shape \(10,\), not \[rows, width\]"),
        ({"a": np.zeros(3, np.int64)}, 1, [], "'a': 'int64'"),
        ({**PARAMETERS, "b": np.zeros(3)}, 1, [], "'b': 'float64'"),
        ({}, 1, [], "of types none"),
    ],
)
def test_what_cannot_be_served_is_refused(
    parameters: dict[str, np.ndarray], num_shards: int, tables: list[str], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        divide(parameters, num_shards=num_shards, tables=tables)
