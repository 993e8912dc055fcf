"""What an engine is to the batcher: columns in, outputs of as many rows out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from raymlops.data import Columns, GroupedColumns
from raymlops.errors import ModelError

Outputs = Mapping[str, NDArray[Any]]

Run = Callable[[Columns], Outputs]
"""Outputs for some rows; may be called from several threads at once."""


def concatenated(parts: Sequence[Columns]) -> Columns:
    """The rows of all parts, which have the same columns in the same order."""
    if len(parts) == 1:
        return parts[0]
    if set(map(type, parts)) == {GroupedColumns}:
        grouped = cast("Sequence[GroupedColumns]", parts)
        if len({part.layout for part in grouped}) == 1:
            return GroupedColumns.joined(grouped)
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def check_num_rows(outputs: Outputs, wanted: int) -> None:
    """Raises ModelError when an output has another number of rows: whose would they be?"""
    for name, values in outputs.items():
        if len(values) != wanted:
            raise ModelError(f"output '{name}' has {len(values)} rows for {wanted} rows")
