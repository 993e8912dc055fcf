"""Which rows of a global batch a replica sees."""

from __future__ import annotations

import numpy as np
import pytest

from raymlops.train.keras.share import share
from raymlops.train.loop.batches import Batch


def shares_of(rows: list[int], num_replicas: int) -> list[tuple[list[int], list[float]]]:
    batch = Batch(rows=np.array(rows), global_size=len(rows), first=rows[0])
    found = (share(batch, replica=r, num_replicas=num_replicas) for r in range(num_replicas))
    return [(part.rows.tolist(), part.weights.tolist()) for part in found]


def test_an_even_batch_is_dealt_out() -> None:
    quarter = [0.25, 0.25]
    assert shares_of([9, 4, 7, 1], 2) == [([9, 7], quarter), ([4, 1], quarter)]


def test_a_missing_row_is_stood_in_for_without_weight() -> None:
    assert shares_of([9, 4], 4) == [([9], [0.5]), ([4], [0.5]), ([9], [0.0]), ([9], [0.0])]
    third = np.float32(1 / 3)
    assert shares_of([9, 4, 7], 2) == [([9, 7], [third, third]), ([4, 9], [third, 0.0])]


@pytest.mark.parametrize("num_replicas", [1, 2, 3, 5, 8])
def test_weighted_sums_add_up_to_the_mean(num_replicas: int) -> None:
    rows = list(range(3, 36))
    total = sum(
        float(np.dot(part_rows, weights)) for part_rows, weights in shares_of(rows, num_replicas)
    )
    assert total == pytest.approx(19.0)  # of 3 to 35
