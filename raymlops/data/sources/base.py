"""The contract of a source: rows that can become a dataset version.

    open_source(what) ──▶ digest, batches() ──▶ examined ──▶ keep(store) ──▶ a tree in the store

The digest names the content before anything is stored, so a refused table has one too.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import pyarrow as pa

from raymlops.errors import DataError
from raymlops.storage import Store

SCHEMA_FILE = "_schema.arrow"
"""The name, in a version's tree, of its Arrow schema: what a reader gets, whatever files say."""

BATCH_ROWS = 1 << 16
BATCH_BYTES = 64 << 20
"""The most rows, and bytes, that are in memory together; a row alone has at most as many bytes."""


@dataclass(frozen=True, kw_only=True)
class Kept:
    """The digest of a version's tree in the store, and the size of the data it stands for."""

    manifest: str
    size_bytes: int


class Source(Protocol):
    """A table, files or a Delta table, about to become a dataset version."""

    @property
    def format(self) -> str:
        """What the version in the store consists of: parquet or delta."""

    @property
    def schema(self) -> pa.Schema: ...

    @property
    def digest(self) -> str:
        """SHA-256 of the content, whatever it is called and wherever it lies."""

    @property
    def origin(self) -> Mapping[str, Any] | None:
        """Where it came from, for the ledger; None for a table in memory."""

    def batches(self, columns: Sequence[str] | None = None) -> Iterator[pa.RecordBatch]:
        """All rows in order, of `columns` or of all.

        Raises:
            DataError: the rows cannot be read.
        """

    def keep(self, store: Store) -> Kept:
        """Puts into `store` what is needed to read these rows again.

        Raises:
            DataError: the content is no longer what `digest` says.
        """


@contextlib.contextmanager
def explained(what: object) -> Iterator[None]:
    """Turns what Arrow and the operating system say about a file into a DataError that names it."""
    try:
        yield
    except UnicodeDecodeError as error:  # Arrow decodes a name when it is asked for
        raise DataError(
            f"{what} has a column whose name is not UTF-8, {error.object!r}; convert the file"
        ) from error
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"{what} cannot be read: {error}") from error


def storable(schema: pa.Schema) -> pa.Schema:
    """The same without views of texts and bytes, also within lists and the like, which Arrow
    neither filters nor compares, and with values in place of dictionaries but of texts, which
    Parquet does not have."""
    return pa.schema([_within(field) for field in schema])


def _storable(kind: pa.DataType) -> pa.DataType:
    if pa.types.is_string_view(kind):
        return pa.string()
    if pa.types.is_binary_view(kind):
        return pa.binary()
    if pa.types.is_dictionary(kind) and not _is_text(kind.value_type):
        return _storable(kind.value_type)
    if pa.types.is_struct(kind):
        return pa.struct([_within(field) for field in kind])
    if pa.types.is_map(kind):
        return pa.map_(_within(kind.key_field), _within(kind.item_field), kind.keys_sorted)
    if pa.types.is_fixed_size_list(kind):
        return pa.list_(_within(kind.value_field), kind.list_size)
    if pa.types.is_list(kind):
        return pa.list_(_within(kind.value_field))
    if pa.types.is_large_list(kind):
        return pa.large_list(_within(kind.value_field))
    return kind


def _within(field: pa.Field) -> pa.Field:
    return field.with_type(_storable(field.type))


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def check_names(what: object, schema: pa.Schema) -> None:
    """Raises DataError when two columns share a name."""
    doubled = sorted(name for name, count in Counter(schema.names).items() if count > 1)
    if doubled:
        raise DataError(f"{what} has several columns named {', '.join(doubled)}; rename them")
