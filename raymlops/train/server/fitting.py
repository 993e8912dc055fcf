"""What a worker gives, held against the parameters: nothing is sent that does not fit them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from raymlops.train.server.partition import Partition, Table


def flat_gradients(
    partition: Partition, gradients: Mapping[str, ArrayLike]
) -> dict[str, NDArray[Any]]:
    """One of every dense parameter, by name, flattened.

    Raises:
        ValueError: names, shapes or types differ from the parameters.
    """
    shapes, dtype = partition.shapes, partition.dtype
    if set(gradients) != set(shapes):
        raise ValueError(
            f"gradients are of {sorted(gradients)}, but the dense parameters are "
            f"{sorted(shapes)}; push all of them"
        )
    given = {name: np.asarray(values) for name, values in gradients.items()}
    for name, values in given.items():
        if values.shape != shapes[name] or values.dtype != dtype:
            raise ValueError(
                f"the gradient of {name!r} is {values.dtype} of shape {values.shape}; the "
                f"parameter is {dtype} of shape {shapes[name]}"
            )
    return {name: values.reshape(-1) for name, values in given.items()}


def table_of(partition: Partition, name: str) -> tuple[int, Table]:
    """The table of that name, and the number of its block.

    Raises:
        ValueError: there is none.
    """
    for block, table in enumerate(partition.tables, start=1):
        if table.name == name:
            return block, table
    names = [table.name for table in partition.tables]
    raise ValueError(f"{name!r} is not a table; those of this server: {names or 'none'}")


def keys_of(table: Table, keys: ArrayLike) -> NDArray[np.int64]:
    """Numbers of rows of the table, as they were given.

    Raises:
        ValueError: one is not a row of it.
    """
    found = np.asarray(keys)
    if found.ndim != 1 or (found.size and found.dtype.kind not in "iu"):
        raise ValueError(
            f"keys of {table.name!r} are {found.dtype} of shape {found.shape}; give a list "
            "of integers"
        )
    found = found.astype(np.int64)
    if found.size and not 0 <= found.min() <= found.max() < table.num_rows:
        raise ValueError(
            f"keys of {table.name!r} go from {found.min()} to {found.max()}; its rows are "
            f"0 to {table.num_rows - 1}"
        )
    return found


def row_gradients(
    partition: Partition, table: Table, keys: NDArray[np.int64], gradients: ArrayLike
) -> NDArray[Any]:
    """Of the rows `keys`, [keys, width].

    Raises:
        ValueError: shape or type differ from those rows.
    """
    values = np.asarray(gradients)
    expected = (len(keys), table.width)
    if values.shape != expected or values.dtype != partition.dtype:
        raise ValueError(
            f"gradients for {table.name!r} are {values.dtype} of shape {values.shape}; these keys "
            f"need {partition.dtype} of shape {expected}"
        )
    return values
