"""Parquet files batch by batch, each of bounded rows and bytes.

The size that a file tells is that of its pages, and does not bound what they unpack to: a text in a
column's dictionary is there once, however many rows have it, and 43 kB become gigabytes. So the
longest text of each dictionary is looked up before rows are read. What is not in a dictionary
stands in the pages at its full length, which are told truly:

    a batch of n rows  <=  n * (numbers + longest texts of dictionaries)  +  pages of the rest
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from raymlops.data.sources.base import BATCH_BYTES, BATCH_ROWS
from raymlops.errors import DataError

# Of pages larger than a batch nobody can tell in which rows the long texts are.
_FEW_ROWS = 1024
_REFERENCE_BYTES = 8
"""What a number takes, and where a text begins."""

_BEYOND_ARROW = "Nested data conversions not implemented for chunked array outputs"


def read_parquet(file: Any, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
    """The rows with `columns`, of which an empty selection yields batches that count rows.

    Raises:
        DataError: a row is too large for a batch.
    """
    # Buffered ahead, every byte of the file would stay in memory until its end.
    with pq.ParquetFile(file, pre_buffer=False) as opened:
        batches = opened.iter_batches(_step(file, opened, columns), columns=list(columns))
        try:
            yield from joined(file, batches)
        except pa.ArrowNotImplementedError as error:
            if _BEYOND_ARROW not in str(error):
                raise
            raise _too_large(file, "a list in a row unpacks to gigabytes") from error


def rows_within(file: Any, columns: Sequence[str], groups: Sequence[int] | None = None) -> int:
    """How many rows of those `columns` that are in the file fill at most a batch, be it in some of
    its row `groups`.

    Raises:
        DataError: a row is too large for a batch.
    """
    with pq.ParquetFile(file, pre_buffer=False) as opened:
        return _step(file, opened, columns, groups)


def _step(
    file: Any, opened: pq.ParquetFile, columns: Sequence[str], groups: Sequence[int] | None = None
) -> int:
    """How many rows fill at most a batch, in the row group where they are the largest."""
    leaves = _leaves(opened, columns)
    if groups is None:
        groups = range(opened.num_row_groups)
    texts = [each for each in leaves if opened.schema.column(each).physical_type == "BYTE_ARRAY"]
    steps = [BATCH_ROWS]
    with pq.ParquetFile(
        file,
        pre_buffer=False,
        metadata=opened.metadata,
        arrow_extensions_enabled=False,  # their texts are read as dictionaries only as plain ones
        read_dictionary=[opened.schema.column(each).path for each in texts],
    ) as dictionaries:
        for number in groups:
            group = opened.metadata.row_group(number)
            if group.num_rows:
                kept = [each for each in texts if group.column(each).has_dictionary_page]
                longest = _longest(dictionaries, number, kept)
                for leaf, length in longest.items():
                    if length > BATCH_BYTES:
                        name = opened.schema.column(leaf).path
                        raise _too_large(file, f"column '{name}' has a text of {_mib(length)}")
                steps.append(_group_step(group, opened.schema, leaves, longest))
    return max(1, min(steps))


def _group_step(group: Any, schema: Any, leaves: Sequence[int], longest: dict[int, int]) -> int:
    row_bytes, pages_bytes, is_uneven = 0.0, 0, False
    for leaf in leaves:
        chunk, column = group.column(leaf), schema.column(leaf)
        is_text = column.physical_type == "BYTE_ARRAY"
        value_bytes = longest.get(leaf, 0) if is_text else max(column.length, 0)
        row_bytes += (_REFERENCE_BYTES + value_bytes) * chunk.num_values / group.num_rows
        if is_text:
            pages_bytes += chunk.total_uncompressed_size
            # Written as what differs from the text before, a long one takes no room.
            is_uneven |= "DELTA_BYTE_ARRAY" in chunk.encodings
        elif column.max_repetition_level:
            pages_bytes += _REFERENCE_BYTES * chunk.num_values
    step = min(BATCH_ROWS, int(BATCH_BYTES / max(row_bytes, 1)))
    if pages_bytes:
        step = min(step, BATCH_BYTES * group.num_rows // pages_bytes)
    return min(step, _FEW_ROWS) if is_uneven or pages_bytes > BATCH_BYTES else step


def _leaves(opened: pq.ParquetFile, columns: Sequence[str]) -> list[int]:
    """The places of all columns of values in `columns`, of which a struct has several."""
    wanted = set(columns)
    paths = [opened.schema.column(each).path for each in range(len(opened.schema))]
    return [
        place
        for place, path in enumerate(paths)
        if not wanted.isdisjoint(accumulate(path.split("."), "{}.{}".format))
    ]


def _longest(opened: pq.ParquetFile, group: int, leaves: Sequence[int]) -> dict[int, int]:
    """The length of the longest text in the dictionary of each of `leaves`."""
    found = dict.fromkeys(leaves, 0)
    if not leaves:
        return found
    paths = [opened.schema.column(each).path for each in leaves]
    # A dictionary comes whole with the first value of it, which empty lists may precede.
    for batch in opened.iter_batches(BATCH_ROWS, row_groups=[group], columns=paths):
        dictionaries = [each for column in batch.columns for each in _dictionaries(column)]
        for leaf, dictionary in zip(leaves, dictionaries, strict=True):
            found[leaf] = max(found[leaf], pc.max(pc.binary_length(dictionary)).as_py() or 0)
        if all(map(len, dictionaries)):
            break
    return found


def _dictionaries(column: pa.Array) -> Iterator[pa.Array]:
    """Those of all texts within a column, in their order in the file."""
    kind = column.type
    if pa.types.is_dictionary(kind):
        yield column.dictionary
    elif pa.types.is_map(kind):
        yield from _dictionaries(column.keys)
        yield from _dictionaries(column.items)
    elif pa.types.is_struct(kind):
        for each in column.flatten():
            yield from _dictionaries(each)
    else:
        yield from _dictionaries(column.values)


def joined(file: Any, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """The same rows in fewer batches, where several have room in one.

    Raises:
        DataError: a row is too large for a batch.
    """
    pending: list[pa.RecordBatch] = []
    num_rows = size_bytes = 0
    for batch in batches:
        if batch.nbytes > BATCH_BYTES * batch.num_rows:
            raise _too_large(file, f"a row fills {_mib(batch.nbytes)}")
        full = num_rows + batch.num_rows > BATCH_ROWS or size_bytes + batch.nbytes > BATCH_BYTES
        if pending and full:
            yield _one(pending)
            pending, num_rows, size_bytes = [], 0, 0
        pending.append(batch)
        num_rows, size_bytes = num_rows + batch.num_rows, size_bytes + batch.nbytes
    if pending:
        yield _one(pending)


def _one(batches: Sequence[pa.RecordBatch]) -> pa.RecordBatch:
    return batches[0] if len(batches) == 1 else pa.concat_batches(batches)


def _too_large(file: Any, what: str) -> DataError:
    where = "a stored file" if isinstance(file, pa.NativeFile) else file
    return DataError(
        f"{where}: {what}, and a row of a dataset has at most {_mib(BATCH_BYTES)}; keep such "
        "things in files of their own, and their names in the table"
    )


def _mib(size_bytes: int) -> str:
    return f"{size_bytes / (1 << 20):,.0f} MiB"
