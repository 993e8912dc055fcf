"""Which rows of a global batch a replica of the model sees."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from raymlops.train.loop.batches import Batch


@dataclass(frozen=True, kw_only=True)
class Share:
    """Rows of one replica. `weights` make the replicas' weighted sums add up to the mean over the
    global batch: 1 / global_size for a row that counts, 0 for one that stands in."""

    rows: NDArray[np.int64]
    weights: NDArray[np.float32]


def share(batch: Batch, *, replica: int, num_replicas: int) -> Share:
    """Rows r, r + num_replicas, ... of a batch, and the batch's first where one is missing.

    So all shares of a batch are of one length: workers trace the same graphs at the same steps, or
    would wait for each other. What stands in comes last, and is left out where the model is asked.
    """
    rows = batch.rows[replica::num_replicas]
    num_missing = math.ceil(batch.global_size / num_replicas) - len(rows)
    stand_ins = np.full(num_missing, batch.first, dtype=rows.dtype)
    weights = np.array([1.0 / batch.global_size, 0.0], np.float32)
    return Share(
        rows=np.concatenate([rows, stand_ins]),
        weights=np.repeat(weights, [len(rows), num_missing]),
    )
