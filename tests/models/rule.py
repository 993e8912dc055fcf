"""A model in plain Python: the radius alone says whether a tumour is benign."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

LIMIT = 14.0


def predict(matrix: NDArray[np.float32]) -> NDArray[np.float32]:
    benign = (matrix[:, 0] < LIMIT).astype(np.float32)
    return np.stack([1 - benign, benign], axis=1)
