"""The rows of Parquet files in parts, each a few row groups of one file, which are read apart."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from raymlops.data.sources.base import check_names, explained
from raymlops.data.sources.files import files_below
from raymlops.data.sources.parquet import rows_within
from raymlops.errors import DataError

SUFFIX = ".parquet"
_PART_ROWS = 1 << 17


@dataclass(frozen=True, kw_only=True)
class Parts:
    """All rows of a file or folder, in the order of the files' names.

    `schema` is what every part can be read with: all columns of any file, each of the widest type,
    and those that folders name (key=value).
    """

    schema: pa.Schema
    fragments: Sequence[ds.ParquetFileFragment]

    @classmethod
    def of(cls, source: Path) -> Parts:
        """Reads the footers alone; there is at least one part, which may have no rows.

        Raises:
            DataError: there is no Parquet file, one cannot be read, or names a column twice, or
                types differ beyond what can be widened.
        """
        names = parquet_files(source)
        with explained(source):
            schemas = [pq.read_schema(name) for name in names]
            for name, schema in zip(names, schemas, strict=True):
                check_names(name, schema)
            dataset = ds.dataset(
                names, format="parquet", partitioning="hive", partition_base_dir=str(source)
            )
            files = list(dataset.get_fragments())
            return cls(
                schema=pa.unify_schemas([*schemas, dataset.schema], promote_options="permissive"),
                fragments=[part for file in files for part in _split(file)] or files[:1],
            )

    @property
    def num_rows(self) -> int:
        return sum(group.num_rows for part in self.fragments for group in part.row_groups)

    def batches(self, number: int, *, num_rows: int) -> Iterator[pa.RecordBatch]:
        """The rows of one part, so many at a time or as few as have room in a batch; no more of the
        file stays in memory.

        Raises:
            DataError: a row is too large for a batch.
        """
        part, options = self.fragments[number], ds.ParquetFragmentScanOptions(pre_buffer=False)
        groups = [group.id for group in part.row_groups]
        size = min(num_rows, rows_within(part.path, self.schema.names, groups))
        yield from part.to_batches(
            self.schema, batch_size=size, batch_readahead=1, fragment_scan_options=options
        )


def parquet_files(source: Path) -> list[str]:
    """The file, or all below the folder that are named as Parquet files.

    Raises:
        DataError: it is not there, or there is none.
    """
    if not source.exists():
        raise DataError(f"there is no {source}")
    below = [each.path for each in files_below(source)] if source.is_dir() else [source]
    names = sorted(str(path) for path in below if path.suffix == SUFFIX)
    if not names:
        raise DataError(
            f"{source} is no Parquet file ({SUFFIX}), nor a folder of them: convert it first, "
            "e.g. pandas.read_csv(FILE).to_parquet('rows.parquet')"
        )
    return names


def spans(sizes: Sequence[int], least: int) -> list[range]:
    """Neighbouring row groups of these sizes, together until they have at least so many rows."""
    found, start, num_rows = [], 0, 0
    for end, size in enumerate(sizes, 1):
        num_rows += size
        if num_rows >= least or (end == len(sizes) and num_rows):
            found.append(range(start, end))
            start, num_rows = end, 0
    return found


def _split(file: ds.ParquetFileFragment) -> list[ds.ParquetFileFragment]:
    sizes = [group.num_rows for group in file.row_groups]
    return [file.subset(row_group_ids=list(span)) for span in spans(sizes, _PART_ROWS)]
