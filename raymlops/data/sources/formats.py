"""How files are read batch by batch: Parquet and CSV."""

from __future__ import annotations

import contextlib
import re
from collections import deque
from collections.abc import Collection, Iterator, Sequence
from decimal import Decimal
from pathlib import Path, PurePosixPath
from typing import Any, Literal

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyarrow import csv

from raymlops.data.sources.base import BATCH_ROWS, storable
from raymlops.data.sources.faults import kind_fault, quote_fault, row_fault
from raymlops.data.sources.parquet import read_parquet
from raymlops.errors import DataError

Kind = Literal["parquet", "csv"]

# Arrow tells the types of a CSV file by its first block; a larger file is read for them.
_CSV_BLOCK_BYTES = 32 << 20

# Without it a block may end within a text that goes over several lines, whose row is two then.
_CSV_PARSING = csv.ParseOptions(newlines_in_values=True)

_CONTRADICTION = re.compile(
    r"CSV column #(?P<place>\d+): CSV conversion error to [^:]+: invalid value '(?P<value>.*)'",
    re.DOTALL,
)
"""What Arrow says of a value that is not of the type its column has."""

_EVERY_WHOLE_UNTIL = 2.0**53
"""Doubles hold every whole number up to here."""
_LONG_WHOLE = r"^\s*[+-]?[0-9]{16,}\s*$"


def kind_of(name: str) -> Kind:
    """Raises DataError when `name` ends neither in .parquet nor in .csv."""
    match PurePosixPath(name).suffix:
        case ".parquet":
            return "parquet"
        case ".csv":
            return "csv"
    raise DataError(f"{name} is neither .parquet nor .csv")


def schema_of(kind: Kind, path: Path, texts: Collection[str] = ()) -> pa.Schema:
    """The columns of a file; those of CSV that are named in `texts` as they are written."""
    if kind == "parquet":
        return storable(pq.read_schema(path))
    if (fault := kind_fault(path)) is not None:
        raise DataError(f"{path} {fault}")
    with _faults_told(path):
        schema = _csv_schema(path, texts)
    for field in schema:
        if pa.types.is_binary(field.type):
            fault = row_fault(path) or "is not UTF-8; convert the file"
            raise DataError(f"{path}: column '{field.name}': {fault}")
    return schema


def read(
    kind: Kind, file: Path | pa.NativeFile, schema: pa.Schema, columns: Sequence[str] | None
) -> Iterator[pa.RecordBatch]:
    """Batches with the columns of `schema`, or those of them in `columns`, and its types."""
    wanted = schema.names if columns is None else [name for name in columns if name in schema.names]
    target = pa.schema([schema.field(name) for name in wanted])
    batches = read_parquet(file, wanted) if kind == "parquet" else _csv(file, target)
    for batch in batches:
        yield batch if batch.schema.equals(target) else batch.select(wanted).cast(target)


def _csv_schema(path: Path, texts: Collection[str]) -> pa.Schema:
    """Each column of a type that fits all of its values, also those far behind."""
    with csv.open_csv(path, read_options=_csv_blocks(), parse_options=_CSV_PARSING) as reader:
        schema = pa.schema(
            field.with_type(pa.string())
            if field.name in texts and not pa.types.is_binary(field.type)
            else field
            for field in reader.schema
        )
    if path.stat().st_size > _CSV_BLOCK_BYTES:
        while (wider := _contradicted(path, schema)) is not None:
            schema = wider
    return schema


def _contradicted(path: Path, schema: pa.Schema) -> pa.Schema | None:
    """`schema` with a wider type for the first column that a later block has another for.

    Raises:
        DataError: no type holds both; names the value.
    """
    try:
        with _open_csv(path, schema) as reader:
            deque(reader, maxlen=0)
    except pa.ArrowInvalid as error:
        if (found := _CONTRADICTION.search(str(error))) is None:
            raise
        place = int(found["place"])
        field = schema.field(place)
        if (wider := _wider(field.type, found["value"])) == field.type:
            raise DataError(
                f"{path}: column '{field.name}' is {field.type} in the rows before "
                f"'{found['value'][:40]}'; correct the value, or store the table as Parquet with "
                "this column as text"
            ) from error
        return schema.set(place, field.with_type(wider))
    return None


def _wider(kind: pa.DataType, text: str) -> pa.DataType:
    """The type of values of `kind` and of this one; `kind` where there is none."""
    quoted = text.replace('"', '""')
    other = csv.read_csv(pa.BufferReader(f'value\n"{quoted}"\n'.encode())).schema
    try:
        both = pa.unify_schemas([pa.schema({"value": kind}), other], promote_options="permissive")
    except pa.ArrowException:
        return kind
    return both.field(0).type


def _csv(file: Any, target: pa.Schema) -> Iterator[pa.RecordBatch]:
    exact: set[str] = set()
    is_checked = False
    with _faults_told(file), _open_csv(file, target) as reader:
        for block in reader:
            if not is_checked and _has_lines(block):
                is_checked = True
                if (fault := quote_fault(file)) is not None:
                    raise DataError(f"{file} {fault}")
            for name in _large(block, target) - exact:
                _check_whole_numbers(file, name)
                exact.add(name)
            known = pa.RecordBatch.from_arrays(
                [_empty_as_null(column) for column in block.columns], schema=block.schema
            )
            for start in range(0, known.num_rows, BATCH_ROWS):
                yield known.slice(start, BATCH_ROWS)


@contextlib.contextmanager
def _faults_told(file: Any) -> Iterator[None]:
    """Says what Arrow does not understand of a CSV file by its line."""
    try:
        yield
    except pa.ArrowInvalid as error:
        if (fault := quote_fault(file) or row_fault(file)) is None:
            raise
        raise DataError(f"{file} {fault}") from error


def _has_lines(block: pa.RecordBatch) -> bool:
    """Whether a text goes over several lines, as one does whose quote is never closed: Arrow takes
    the rows behind it for a part of it."""
    texts = (each for each in block.columns if pa.types.is_string(each.type))
    return any(pc.any(pc.match_substring(each, "\n")).as_py() for each in texts)


def _large(block: pa.RecordBatch, target: pa.Schema) -> set[str]:
    """The columns of doubles that may stand for whole numbers no double holds."""
    return {
        field.name
        for field in target
        if pa.types.is_float64(field.type)
        and pc.any(pc.greater_equal(pc.abs(block[field.name]), _EVERY_WHOLE_UNTIL)).as_py()
    }


def _check_whole_numbers(file: Any, name: str) -> None:
    """Reads column `name` once more, as text: Arrow makes doubles of whole numbers beyond int64,
    and of ids that differ one.

    Raises:
        DataError: a whole number in it is not the double that is read for it.
    """
    with _open_csv(file, pa.schema([(name, pa.string())])) as reader:
        for block in reader:
            texts = block[name]
            for text in texts.filter(pc.match_substring_regex(texts, _LONG_WHOLE)).to_pylist():
                if Decimal(text) != float(text):
                    raise DataError(
                        f"{file}: column '{name}' is read as doubles, which cannot tell "
                        f"{text.strip()} from the numbers next to it; if it is an id, store the "
                        "table as Parquet with this column as text and declare it a category"
                    )


def _empty_as_null(column: pa.Array) -> pa.Array:
    """Nothing between two commas is missing in a column of texts, too; "NA" is a text there."""
    if not pa.types.is_string(column.type):
        return column
    empty = pc.equal(column, "")
    return pc.if_else(empty, None, column) if pc.any(empty).as_py() else column


def _open_csv(file: Any, target: pa.Schema) -> csv.CSVStreamingReader:
    options = csv.ConvertOptions(
        column_types={field.name: field.type for field in target}, include_columns=target.names
    )
    return csv.open_csv(
        file, read_options=_csv_blocks(), parse_options=_CSV_PARSING, convert_options=options
    )


def _csv_blocks() -> csv.ReadOptions:
    return csv.ReadOptions(block_size=_CSV_BLOCK_BYTES)
