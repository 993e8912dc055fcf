"""scikit-learn's digits, as columns and as a file of ten chunks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_digits

from raymlops.data.loading import Columns, write_arrays


@pytest.fixture(scope="session")
def digits() -> Columns:
    """1,797 images [rows, 8, 8] float32 and their labels [rows] int64."""
    loaded = load_digits()
    return loaded.images.astype(np.float32), loaded.target.astype(np.int64)


@pytest.fixture
def file(digits: Columns, tmp_path: Path) -> Path:
    path = tmp_path / "digits.rows"
    write_arrays(path, digits, rows_per_chunk=180)
    return path
