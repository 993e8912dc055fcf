"""Rows of a Ray dataset: counted where they lie, so only counts travel."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from raymlops.data.bins import Counts
from raymlops.data.distributions import Layout
from raymlops.data.sources.base import storable
from raymlops.data.tensors import no_rows
from raymlops.errors import DataError

if TYPE_CHECKING:
    from ray.data import Dataset

_BATCH_ROWS = 1 << 16


class RayRows:
    """The rows of a dataset, for tables that fit into no one machine."""

    def __init__(self, dataset: Dataset) -> None:
        self._dataset = dataset
        self.schema: pa.Schema = dataset.schema().base_schema

    @classmethod
    def read(cls, path: str | Sequence[str]) -> RayRows:
        """Those of a Parquet file, a folder of them, or a URI that pyarrow reads.

        Raises:
            DataError: there is no such file.
        """
        import ray

        try:
            paths = path if isinstance(path, str) else list(path)
            rows = cls(ray.data.read_parquet(paths))
            schema = storable(rows.schema)  # of views Ray sends none from process to process
            if schema == rows.schema:
                return rows
            return cls(ray.data.read_parquet(paths, schema=schema))
        except (OSError, pa.ArrowException) as error:
            raise DataError(f"{path} cannot be read as Parquet: {error}") from error

    def sample(self, columns: Iterable[str], max_rows: int) -> pa.Table:
        names = list(columns)
        num_rows = self._dataset.count()
        chosen = self._dataset.select_columns(names)
        if num_rows > max_rows:
            chosen = chosen.random_sample(max_rows / num_rows, seed=0)
        batches: Iterable[Any] = chosen.iter_batches(batch_size=None, batch_format="pyarrow")
        schema = pa.schema([self.schema.field(name) for name in names])
        return pa.concat_tables([no_rows(schema), *(each.cast(schema) for each in batches)])

    def count(self, layout: Layout) -> Counts:
        count: Any = _counted  # of an Arrow table, which map_batches' types do not know
        counted = self._dataset.select_columns(list(layout.columns)).map_batches(
            count, fn_args=(layout,), batch_size=_BATCH_ROWS, batch_format="pyarrow"
        )
        total = layout.nothing()
        for row in counted.iter_rows():
            total = total + np.asarray(row["cells"], dtype=np.int64)
        return total


def _counted(table: pa.Table, layout: Layout) -> dict[str, Any]:
    return {"cells": layout.count(table)[None, :]}
