"""Runs and metrics as two Parquet files, for pandas, DuckDB, Spark."""

from __future__ import annotations

import contextlib
import json
import secrets
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from sqlalchemy import Row

from raymlops.ledger.export.folders import make_folder
from raymlops.ledger.export.rows import Exported, RunPage, reading
from raymlops.ledger.ledger import Ledger

_TIME = pa.timestamp("us", tz="UTC")
_NAME = pa.dictionary(pa.int32(), pa.string())

RUNS = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("parent_id", pa.string()),
        pa.field("kind", pa.string(), nullable=False),
        pa.field("model", pa.string(), nullable=False),
        pa.field("status", pa.string(), nullable=False),
        pa.field("commit", pa.string(), nullable=False),
        pa.field("dirty_digest", pa.string()),
        pa.field("config_digest", pa.string(), nullable=False),
        pa.field("environment_digest", pa.string(), nullable=False),
        pa.field("started_at", _TIME, nullable=False),
        pa.field("ended_at", _TIME),
        pa.field("error", pa.string()),
        pa.field("params", pa.string(), nullable=False),  # a JSON object: values keep their types
        pa.field("tags", pa.map_(pa.string(), pa.string()), nullable=False),
        pa.field(
            "inputs",
            pa.list_(
                pa.struct(
                    [("role", pa.string()), ("dataset", pa.string()), ("version", pa.int64())]
                )
            ),
            nullable=False,
        ),
    ]
)
METRICS = pa.schema(
    [
        pa.field("run_id", _NAME, nullable=False),
        pa.field("name", _NAME, nullable=False),
        pa.field("step", pa.int64(), nullable=False),
        pa.field("value", pa.float64(), nullable=False),  # NaN is NaN, not null
        pa.field("at", _TIME, nullable=False),
    ]
)


def to_parquet(
    ledger: Ledger,
    folder: Path,
    *,
    model: str | None = None,
    run_ids: Sequence[str] | None = None,
) -> Exported:
    """Writes runs.parquet and metrics.parquet of all runs, of one model's, or of those named.

    A file that is there is replaced once the new one is complete. Every metric's run is among the
    runs, also while trainings write on.

    Raises:
        NotFoundError: there is no such run, or no run of the model.
        DataError: `folder` is a file.
    """
    make_folder(folder)
    runs_path, metrics_path = folder / "runs.parquet", folder / "metrics.parquet"
    num_runs = num_metrics = 0
    with reading(ledger, model=model, run_ids=run_ids) as rows:
        with _replacing(metrics_path, METRICS) as writer:
            for page in rows.metrics():
                writer.write_batch(_metrics(page))
                num_metrics += len(page)
        with _replacing(runs_path, RUNS) as writer:
            for runs in rows.runs():
                writer.write_batch(_runs(runs))
                num_runs += len(runs.rows)
    return Exported(num_runs=num_runs, num_metrics=num_metrics, files=(runs_path, metrics_path))


@contextlib.contextmanager
def _replacing(path: Path, schema: pa.Schema) -> Iterator[Any]:
    """A writer of `path`, which takes its place at the end of the block, if that is reached."""
    staging = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        with pq.ParquetWriter(staging, schema, compression="zstd") as writer:
            yield writer
        staging.replace(path)
    finally:
        staging.unlink(missing_ok=True)


def _metrics(rows: Sequence[Row[Any]]) -> pa.RecordBatch:
    _, run_ids, names, steps, values, times = zip(*rows, strict=True)
    columns = [
        pa.array(run_ids, pa.string()).dictionary_encode(),
        pa.array(names, pa.string()).dictionary_encode(),
        pa.array(steps, pa.int64()),
        pa.array(values, pa.float64()),
        pa.array(times, _TIME),
    ]
    return pa.record_batch(columns, schema=METRICS)


def _runs(page: RunPage) -> pa.RecordBatch:
    rows = [
        {
            **row._mapping,
            "params": json.dumps(page.params.get(row.id, {}), sort_keys=True),
            "tags": sorted(page.tags.get(row.id, {}).items()),
            "inputs": [
                {"role": held.role, "dataset": held.dataset_name, "version": held.dataset_version}
                for held in page.inputs.get(row.id, ())
            ],
        }
        for row in page.rows
    ]
    return pa.RecordBatch.from_pylist(rows, schema=RUNS)
