"""Columns that lie in the names of folders: year=2013/month=1/part.parquet (Hive)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from urllib.parse import unquote

import pyarrow as pa

from raymlops.errors import DataError

_MISSING = "__HIVE_DEFAULT_PARTITION__"


@dataclass(frozen=True)
class Partitions:
    """The columns in the names of all files: whole numbers where all values are, else texts."""

    fields: tuple[pa.Field, ...]

    @classmethod
    def of(cls, names: Iterable[str]) -> Partitions:
        """Raises DataError when files lie in folders with different keys."""
        values = [_values(name) for name in names]
        keys = tuple(values[0])
        if any(tuple(each) != keys for each in values):
            found = sorted({"/".join(each) or "none" for each in values})
            raise DataError(f"folders name different partition columns: {', '.join(found)}")
        kinds = {
            key: pa.int64()
            if all(each[key] is None or _is_whole(str(each[key])) for each in values)
            else pa.string()
            for key in keys
        }
        return cls(tuple(pa.field(key, kind) for key, kind in kinds.items()))

    def extend(self, schema: pa.Schema) -> pa.Schema:
        """`schema` with the partition columns behind its own."""
        return pa.schema([*schema, *self.fields])

    def folder(self, name: str) -> str:
        """The part of a file's name that holds data."""
        return "/".join(part for part in PurePosixPath(name).parts[:-1] if "=" in part)

    def read(
        self,
        batches: Iterable[pa.RecordBatch],
        name: str,
        schema: pa.Schema,
        columns: Sequence[str] | None,
    ) -> Iterator[pa.RecordBatch]:
        """The batches of file `name` with its partition columns, in the order of `schema` or of
        `columns`."""
        if not self.fields:
            yield from batches
            return
        values = _values(name)
        wanted = schema.names if columns is None else list(columns)
        target = pa.schema([schema.field(each) for each in wanted])
        constants = {
            field.name: pa.scalar(values[field.name]).cast(field.type)
            for field in self.fields
            if field.name in wanted
        }
        for batch in batches:
            arrays = [
                pa.repeat(constants[each], batch.num_rows) if each in constants else batch[each]
                for each in wanted
            ]
            yield pa.RecordBatch.from_arrays(arrays, schema=target)


def _values(name: str) -> Mapping[str, str | None]:
    parts = (part.split("=", 1) for part in PurePosixPath(name).parts[:-1] if "=" in part)
    return {key: None if value == _MISSING else unquote(value) for key, value in parts}


def _is_whole(text: str) -> bool:
    """Whether the text is a number that is written in no other way (007 is none)."""
    return text.lstrip("-").isdecimal() and str(int(text)) == text
