"""Predictions for a whole Parquet file or folder, by Ray Data and without a server."""

from __future__ import annotations

import functools
import os
import re
import shutil
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from raymlops.cluster.resources import free_cpus
from raymlops.data import Column
from raymlops.data.features import as_floats
from raymlops.data.tensors import no_rows, read_tensors
from raymlops.errors import DataError
from raymlops.ledger import Ledger, ModelVersion, Version, open_ledger
from raymlops.models import Bundle, Field, Signature
from raymlops.serve.offline.parts import SUFFIX, Parts
from raymlops.storage import Store

_BATCH_ROWS = 8192
_MAX_TASKS = 4
_PARTIAL = ".partial"
_OURS = re.compile(r"raymlops\.errors\.\w+: (.+)")


@dataclass(frozen=True, kw_only=True)
class Predicted:
    """How many rows were predicted, into which folder of Parquet files."""

    version: ModelVersion
    num_rows: int
    path: Path


def predict_parquet(
    version: ModelVersion,
    source: Path,
    target: Path,
    *,
    ledger_url: str,
    store_uri: str,
    prefix: str = "",
    on_rows: Callable[[int, int], None] | None = None,
) -> Predicted:
    """Writes the rows of `source` with the version's outputs beside them, in the same order.

    Their columns are called `prefix` and the output's name.

    `target` becomes a folder of Parquet files, which appears when it is complete: their rows, in
    the order of the files' names, are those of the files of `source` in the order of theirs. Of no
    rows it holds the columns. Ray must be connected. `on_rows` is told, after each part, how many
    rows are done and how many there are.

    Raises:
        DataError: there is something at `target`, `source` is not Parquet or has a column of an
            output's name, or a row of it does not fit the model; nothing is written.
    """
    import ray.data

    with open_ledger(ledger_url) as ledger:
        parts = parts_for(version, source, target, ledger=ledger, prefix=prefix)
    partial = target.absolute().with_name(target.name + _PARTIAL)
    shutil.rmtree(partial, ignore_errors=True)  # of a run that was killed
    partial.mkdir(parents=True)
    num_parts = len(parts.fragments)
    numbers = ray.data.from_items(list(range(num_parts)), override_num_blocks=num_parts)
    numbers.context.enable_progress_bars = False
    # Rows pass through no object store, and no writer of Ray Data's, which keeps no order.
    # Tasks, since of actors that are started again if they die Ray warns on everyone's terminal.
    scored = numbers.map(
        _Scorer(version, ledger_url, store_uri, prefix, parts, partial),
        num_cpus=0,  # beside replicas, none may be free
        compute=ray.data.TaskPoolStrategy(min(num_parts, num_tasks(free_cpus()))),
    )
    num_rows, of_rows = 0, parts.num_rows
    try:
        for row in scored.iter_rows():
            num_rows += row["num_rows"]
            if on_rows is not None:
                on_rows(num_rows, of_rows)
    except Exception as error:  # Ray Data's own, whatever a part raised
        shutil.rmtree(partial, ignore_errors=True)
        if (reason := _reason(error)) is None:
            raise
        raise DataError(f"{source}, rows numbered within a batch: {reason}") from error
    os.replace(partial, target)
    return Predicted(version=version, num_rows=num_rows, path=target)


def parts_for(
    version: ModelVersion, source: Path, target: Path, *, ledger: Ledger, prefix: str = ""
) -> Parts:
    """The rows of `source`, whose columns fit the version's inputs and leave room for its outputs;
    reads footers alone, and needs no Ray.

    Raises:
        DataError: they do not, `source` is not Parquet, or there is something at `target`.
    """
    if target.exists():
        raise DataError(f"{target} exists; nothing is overwritten")
    parts = Parts.of(source.absolute())
    signature = Signature.from_json(ledger.text(version.signature_digest))
    table_columns(no_rows(parts.schema), signature)
    _check_free(parts.schema.names, [f"{prefix}{field.name}" for field in signature.outputs])
    return parts


def num_tasks(free_cpus: float) -> int:
    """How many parts may be scored at a time, where so many CPUs are free."""
    return max(1, min(_MAX_TASKS, int(free_cpus)))


def predict_table(bundle: Bundle, table: pa.Table, *, prefix: str = "") -> pa.Table:
    """`table` with the bundle's outputs as further columns, whose names begin with `prefix`.

    Raises:
        DataError: it lacks a column, has one of another type, or has one named as an output.
        SignatureError: a row does not fit the model.
    """
    columns = table_columns(table, bundle.signature)
    # Not every model answers to no rows; of what type its outputs are, any row tells.
    outputs = bundle.predict(columns if table.num_rows else bundle.sample(1))
    outputs = {f"{prefix}{name}": values for name, values in outputs.items()}
    _check_free(table.column_names, outputs)
    for name, values in outputs.items():
        flat = values.tolist() if values.ndim > 1 or values.dtype == object else values
        table = table.append_column(name, pa.array(flat).slice(0, table.num_rows))
    return table


def table_columns(table: pa.Table, signature: Signature) -> dict[str, Column]:
    """The inputs of a model out of an Arrow table; columns it does not take are left alone.

    Raises:
        DataError: a column is missing, or of another type.
    """
    return {field.name: _column(table, field) for field in signature.inputs}


def _column(table: pa.Table, field: Field) -> Column:
    if field.name not in table.column_names:
        has = ", ".join(table.column_names)
        raise DataError(f"column '{field.name}' is missing; the rows have {has}")
    column = table[field.name]
    try:
        if field.shape:
            return _tensors(column, field)
        if field.datatype == "BYTES":
            return np.asarray(column.cast(pa.string()).to_numpy(zero_copy_only=False), object)
        return np.asarray(as_floats(column).fill_null(np.nan).to_numpy())
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, ValueError) as error:
        raise DataError(
            f"column '{field.name}' has type {column.type}, not {field.datatype}: {error}"
        ) from error


def _tensors(column: pa.ChunkedArray, field: Field) -> Column:
    """[rows, *field.shape]; of no rows, whatever the column has them to be."""
    if not len(column):
        return np.empty((0, *map(abs, field.shape)))
    tensors, _ = read_tensors(column, name=field.name)
    if not field.takes(tensors.shape[1:]):
        tensors = tensors.reshape(-1, *field.shape)
    return tensors


def _check_free(columns: Collection[str], outputs: Collection[str]) -> None:
    """Raises DataError where one of the columns is called as an output will be."""
    for name in outputs:
        if name in columns:
            raise DataError(
                f"the rows have a column '{name}' already, as the model's output is called: give "
                "the outputs another --prefix, such as predicted_, or drop the column"
            )


@dataclass(frozen=True)
class _Scorer:
    """Writes a file for each part."""

    version: ModelVersion
    ledger_url: str
    store_uri: str
    prefix: str
    parts: Parts
    folder: Path

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        bundle = _bundle(self.ledger_url, self.store_uri, self.version.model, self.version.version)
        number, num_rows = row["item"], 0
        path = self.folder / f"part-{number:08}{SUFFIX}"
        schema = predict_table(bundle, no_rows(self.parts.schema), prefix=self.prefix).schema
        with pq.ParquetWriter(path, schema) as writer:
            for batch in self.parts.batches(number, num_rows=_BATCH_ROWS):
                table = pa.Table.from_batches([batch])
                writer.write_table(predict_table(bundle, table, prefix=self.prefix))
                num_rows += batch.num_rows
        return {"num_rows": num_rows}


@functools.lru_cache(maxsize=1)
def _bundle(ledger_url: str, store_uri: str, model: str, version: Version) -> Bundle:
    """Loaded once a worker process; what is loaded is what is registered now."""
    with open_ledger(ledger_url) as ledger:
        registered = ledger.registry.get(model, version)
    return Bundle.of_version(Store(store_uri), registered)


def _reason(error: Exception) -> str | None:
    """What one of our errors said; of an error in a batch Ray Data keeps the text alone."""
    found = _OURS.findall(str(error))
    return None if not found else str(found[-1])
