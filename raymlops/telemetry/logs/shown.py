"""What a log may show of a request's values."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from numpy.typing import NDArray

from raymlops.config import HIDDEN


def shown_inputs(
    columns: Mapping[str, NDArray[Any]], *, hidden: Collection[str], max_rows: int
) -> dict[str, Any]:
    """The first rows by column; of hidden columns that they were there, and nothing else."""
    return {
        name: HIDDEN if name in hidden else values[:max_rows].tolist()
        for name, values in columns.items()
    }
