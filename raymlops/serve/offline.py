"""Predictions for a whole Parquet file or folder, by Ray Data and without a server."""

from __future__ import annotations

import logging
import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from raymlops.data import Column
from raymlops.data.features import as_floats
from raymlops.errors import DataError
from raymlops.ledger import ModelVersion, open_ledger
from raymlops.models import Bundle, Field, Signature
from raymlops.storage import Store

_logger = logging.getLogger(__name__)

_BATCH_ROWS = 8192
_MAX_ACTORS = 4
_PARTIAL = ".partial"
_SUFFIX = ".parquet"
_OURS = re.compile(r"raymlops\.errors\.\w+: (.+)")


@dataclass(frozen=True, kw_only=True)
class Predicted:
    """How many rows were predicted, into which folder of Parquet files."""

    version: ModelVersion
    num_rows: int
    path: Path


def predict_parquet(
    version: ModelVersion, source: Path, target: Path, *, ledger_url: str, store_uri: str
) -> Predicted:
    """Writes the rows of `source` with the version's outputs beside them, in the same order.

    `target` becomes a folder of Parquet files, which appears when it is complete; of no rows it
    holds the columns. Ray must be connected.

    Raises:
        DataError: there is something at `target`, `source` is not Parquet, or a row of it does not
            fit the model; nothing is written.
    """
    import ray.data

    if target.exists():
        raise DataError(f"{target} exists; nothing is overwritten")
    check_parquet(source)
    partial = target.with_name(target.name + _PARTIAL)
    shutil.rmtree(partial, ignore_errors=True)  # of a run that was killed
    try:
        dataset = ray.data.read_parquet(str(source.absolute()))
    except (OSError, ValueError) as error:  # Arrow's errors are among these
        raise DataError(f"{source} cannot be read as Parquet: {error}") from error
    dataset.context.execution_options.preserve_order = True
    dataset.context.enable_progress_bars = False
    scored = dataset.map_batches(
        _Scorer,
        fn_constructor_args=(version, ledger_url, store_uri),
        batch_format="pyarrow",
        batch_size=_BATCH_ROWS,
        # They hold no CPU: beside replicas, the last one free is for the tasks that read and write.
        num_cpus=0,
        compute=ray.data.ActorPoolStrategy(min_size=1, max_size=num_actors(_free_cpus())),
    )
    try:
        scored.write_parquet(str(partial.absolute()))
    except Exception as error:  # Ray Data's own, whatever a batch raised
        shutil.rmtree(partial, ignore_errors=True)
        if (reason := _reason(error)) is None:
            raise
        raise DataError(f"{source}, rows numbered within a batch: {reason}") from error
    files = list(partial.glob(f"*{_SUFFIX}"))
    if not files:  # Ray Data writes none where there are no rows
        no_rows = dataset.schema().base_schema.empty_table()
        outputs = _Scorer(version, ledger_url, store_uri)(no_rows)
        partial.mkdir(parents=True, exist_ok=True)
        pq.write_table(outputs, partial / f"empty{_SUFFIX}")
    num_rows = sum(pq.read_metadata(path).num_rows for path in files)
    os.replace(partial, target)
    return Predicted(version=version, num_rows=num_rows, path=target)


def check_parquet(source: Path) -> None:
    """Returns quietly when it is named as a Parquet file, or is a folder with one below.

    Raises:
        DataError: it is not there, or Ray Data would find no file in it.
    """
    if not source.exists():
        raise DataError(f"there is no {source}")
    if source.suffix != _SUFFIX and not any(source.rglob(f"*{_SUFFIX}")):
        raise DataError(
            f"{source} is no Parquet file ({_SUFFIX}), nor a folder of them: convert it first, "
            "e.g. pandas.read_csv(FILE).to_parquet('rows.parquet')"
        )


def num_actors(free_cpus: float) -> int:
    """How many actors may score at a time, where so many CPUs are free."""
    return max(1, min(_MAX_ACTORS, int(free_cpus)))


def predict_table(bundle: Bundle, table: pa.Table) -> pa.Table:
    """`table` with the bundle's outputs as further columns.

    Raises:
        DataError: it lacks a column, has one of another type, or has one named as an output.
        SignatureError: a row does not fit the model.
    """
    columns = table_columns(table, bundle.signature)
    # Not every model answers to no rows; of what type its outputs are, any row tells.
    outputs = bundle.predict(columns if table.num_rows else bundle.sample(1))
    for name, values in outputs.items():
        if name in table.column_names:
            raise DataError(f"the rows have a column '{name}' already, as the model's output is")
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
            return np.array(column.to_pylist(), np.float64).reshape(-1, *field.shape)
        if field.datatype == "BYTES":
            return np.asarray(column.cast(pa.string()).to_numpy(zero_copy_only=False), object)
        return np.asarray(as_floats(column).fill_null(np.nan).to_numpy())
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, ValueError) as error:
        raise DataError(
            f"column '{field.name}' has type {column.type}, not {field.datatype}: {error}"
        ) from error


def _free_cpus() -> float:
    """Warns where there is none: what reads and writes rows then waits."""
    import ray

    untyped: Any = ray
    free = float(untyped.available_resources().get("CPU", 0.0))
    if free < 1.0:
        _logger.warning(
            "%g of the cluster's CPUs are free, and reading rows takes 1: this waits until "
            "something ends; undeploy a model, or add a machine",
            free,
        )
    return free


class _Scorer:
    """One actor of Ray Data: loads the bundle once."""

    def __init__(self, version: ModelVersion, ledger_url: str, store_uri: str) -> None:
        with open_ledger(ledger_url) as ledger:  # what is loaded is what is registered now
            registered = ledger.registry.get(version.model, version.version)
        self._bundle = Bundle.of_version(Store(store_uri), registered)

    def __call__(self, batch: pa.Table) -> pa.Table:
        return predict_table(self._bundle, batch)


def _reason(error: Exception) -> str | None:
    """What one of our errors said; of an error in a batch Ray Data keeps the text alone."""
    found = _OURS.findall(str(error))
    return None if not found else str(found[-1])
