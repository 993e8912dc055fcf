"""A Delta table at one version (extra `delta`): recorded, not copied.

A Delta log names the data files of each version, and neither log entries nor data files are ever
rewritten. So a dataset version keeps the list of files, with sizes, statistics and, where they lie
on this machine, their SHA-256; reading it again compares, and refuses what was vacuumed away or
tampered with.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

import orjson
import pyarrow as pa

from raymlops.data.hashing import FileHasher
from raymlops.data.sources.base import SCHEMA_FILE, Kept, check_names, explained
from raymlops.data.sources.parquet import joined, rows_within
from raymlops.errors import DataError
from raymlops.storage import Store

if TYPE_CHECKING:
    from deltalake import DeltaTable

_LISTING_FILE = "_delta.json"
_NAME_IN_FILES = "delta.columnMapping.physicalName"


class DeltaSource:
    """The table at `uri` as of `version` or of the time `at`; without both, as it is now.

    Raises:
        DataError: there is no such table or version, the URI holds a password, or the table uses
            what cannot be read (deletion vectors, columns that were renamed by mapping).
    """

    format = "delta"

    def __init__(
        self,
        uri: str,
        hasher: FileHasher,
        *,
        version: int | None = None,
        at: datetime | None = None,
    ) -> None:
        _refuse_secrets(uri)
        self._uri = uri if "://" in uri else str(Path(uri).resolve())
        self._hasher = hasher
        if at is not None:
            if version is not None:
                raise DataError(f"{uri}: give a version or a time, not both")
            version = _version_at(_open(self._uri, None), at)
        self._table = _open(self._uri, version)
        self._dataset = _dataset(self._table)
        self.schema: pa.Schema = self._dataset.schema.remove_metadata()
        check_names(uri, self.schema)

    @cached_property
    def _files(self) -> list[dict[str, Any]]:
        return _active_files(self._table, self._hasher)

    @property
    def digest(self) -> str:
        if all(file["sha256"] for file in self._files):
            content = sorted(_text([file["sha256"], file["partition"]]) for file in self._files)
        else:
            content = [self._uri, *(_text(file) for file in self._files)]
        lines = [*(f"{field.name} {field.type}" for field in self.schema), *content]
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()

    @property
    def origin(self) -> Mapping[str, Any]:
        return {
            "kind": "delta",
            "uri": self._uri,
            "version": self._table.version(),
            "files": len(self._files),
        }

    def batches(self, columns: Sequence[str] | None = None) -> Iterator[pa.RecordBatch]:
        yield from _read(self._dataset, self._uri, columns)

    def keep(self, store: Store) -> Kept:
        listing = {
            "uri": self._uri,
            "version": self._table.version(),
            "files": self._files,
        }
        manifest = store.put_tree(
            {
                _LISTING_FILE: orjson.dumps(listing, option=orjson.OPT_SORT_KEYS),
                SCHEMA_FILE: self.schema.serialize().to_pybytes(),
            }
        )
        return Kept(manifest=manifest, size_bytes=sum(file["size_bytes"] for file in self._files))


class DeltaRows:
    """A recorded version of a Delta table, read back exactly.

    Raises:
        DataError: its files were vacuumed away or are not those that were recorded.
    """

    def __init__(self, store: Store, manifest: str) -> None:
        blobs = store.tree(manifest)
        self._listing = orjson.loads(store.get(blobs[_LISTING_FILE]))
        self.schema: pa.Schema = pa.ipc.read_schema(pa.BufferReader(store.get(blobs[SCHEMA_FILE])))

    def batches(self, columns: Sequence[str] | None = None) -> Iterator[pa.RecordBatch]:
        uri, version = self._listing["uri"], self._listing["version"]
        table = _open(uri, version)
        with explained(f"version {version} of {uri}"):
            found = _active_files(table, FileHasher())
        _compare(f"version {version} of {uri}", self._listing["files"], found)
        yield from _read(_dataset(table), uri, columns)


def is_delta(path: Path) -> bool:
    return (path / "_delta_log").is_dir()


def _open(uri: str, version: int | None) -> DeltaTable:
    try:
        from deltalake import DeltaTable
        from deltalake.exceptions import DeltaError, TableNotFoundError
    except ModuleNotFoundError as error:
        raise DataError(
            "Delta tables need the package deltalake; `pip install raymlops[delta]`"
        ) from error
    try:
        return DeltaTable(uri, version=version)
    except TableNotFoundError as error:
        raise DataError(f"there is no Delta table at {uri}: {error}") from error
    except (DeltaError, OSError, ValueError, OverflowError) as error:
        wanted = "" if version is None else f"version {version} of "
        raise DataError(f"{wanted}the Delta table at {uri} cannot be opened: {error}") from error


def _version_at(table: DeltaTable, at: datetime) -> int:
    """The newest version committed until `at`.

    deltalake's own `load_as_version` answers a time before the first commit with version 0.
    """
    newest = table.version()
    committed = [datetime.fromtimestamp(each["timestamp"] / 1000, UTC) for each in table.history()]
    for age, time in enumerate(committed):
        if time <= at:
            return newest - age
    raise DataError(
        f"{table.table_uri} had no version at {at.isoformat()}; the oldest still known came "
        f"{committed[-1].isoformat()}"
    )


def _dataset(table: DeltaTable) -> Any:
    from deltalake.exceptions import DeltaProtocolError

    # deltalake refuses tables that list the feature; of older ones it reads such columns as null.
    if renamed := sorted(_renamed(orjson.loads(table.schema().to_json()))):
        raise DataError(
            f"{table.table_uri} cannot be read: its files know {', '.join(renamed)} by other names "
            "(delta.columnMapping); write it anew without that, e.g. as a copy in Parquet"
        )
    try:
        return table.to_pyarrow_dataset()
    except DeltaProtocolError as error:
        raise DataError(f"{table.table_uri} cannot be read: {error}") from error


def _renamed(node: Any) -> Iterator[str]:
    """The columns of a schema, and fields of theirs, that have another name in the files."""
    if isinstance(node, dict):
        name = node.get("name")
        if node.get("metadata", {}).get(_NAME_IN_FILES, name) != name:
            yield str(name)
        for value in node.values():
            yield from _renamed(value)
    elif isinstance(node, list):
        for value in node:
            yield from _renamed(value)


def _read(dataset: Any, uri: str, columns: Sequence[str] | None) -> Iterator[pa.RecordBatch]:
    wanted = dataset.schema.names if columns is None else list(columns)
    with explained(uri):
        for batch in joined(uri, _scanned(dataset, wanted)):
            yield batch.replace_schema_metadata(None)


def _scanned(dataset: Any, columns: list[str]) -> Iterator[pa.RecordBatch]:
    """File by file, as many rows at a time as a batch may have of each."""
    for fragment in dataset.get_fragments():
        with fragment.open() as file:
            num_rows = rows_within(file, columns)
        scanner = fragment.scanner(
            schema=dataset.schema, columns=columns, batch_size=num_rows, batch_readahead=1
        )
        yield from scanner.to_batches()


def _active_files(table: DeltaTable, hasher: FileHasher) -> list[dict[str, Any]]:
    """The data files of this version, by path; `sha256` is None for those on other machines."""
    root = _local(table.table_uri)
    rows = sorted(pa.table(table.get_add_actions()).to_pylist(), key=lambda row: str(row["path"]))
    places = [_place(root, row["path"]) for row in rows]
    local = [place for place in places if place is not None]
    gone = [str(place) for place in local if not place.exists()]
    if gone:
        raise DataError(
            f"version {table.version()} of {table.table_uri} was vacuumed: {len(gone)} of its "
            f"{len(rows)} files are gone, e.g. {gone[0]}; choose a version that is still whole"
        )
    digests = dict(zip(local, hasher.digests(local), strict=True))
    return [
        {
            "path": row["path"],
            "size_bytes": row["size_bytes"],
            "num_records": row.get("num_records"),
            "partition": {key: str(value) for key, value in (row.get("partition") or {}).items()},
            "sha256": digests[place] if place is not None else None,
        }
        for row, place in zip(rows, places, strict=True)
    ]


def _place(root: Path | None, path: str) -> Path | None:
    """Where the log's `path` lies: quoted, below the table's root or a URI of its own."""
    if "://" in path:
        return _local(path)
    return root / unquote(path) if root is not None else None


def _local(uri: str) -> Path | None:
    if "://" not in uri:
        return Path(uri)
    parts = urlsplit(uri)
    return Path(unquote(parts.path)) if parts.scheme == "file" else None


def _compare(
    what: str, recorded: Sequence[Mapping[str, Any]], found: Sequence[Mapping[str, Any]]
) -> None:
    now = {file["path"]: file for file in found}
    for file in recorded:
        path = file["path"]
        if path not in now:
            raise DataError(f"{what} no longer holds {path}; it is not the table that was added")
        if now[path] != file:
            raise DataError(
                f"{what} changed: {path} was {_text(file)}, it is {_text(now[path])}; restore it"
            )
    if len(now) != len(recorded):
        raise DataError(f"{what} has {len(now)} files, not the {len(recorded)} that were added")


def _refuse_secrets(uri: str) -> None:
    parts = urlsplit(uri) if "://" in uri else None
    if parts is not None and (parts.username or parts.password):
        raise DataError(
            f"the URI of a Delta table on {parts.hostname} holds credentials, which would lie open "
            "in the ledger; give them by environment variables, e.g. AWS_ACCESS_KEY_ID"
        )


def _text(value: object) -> str:
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS).decode()
