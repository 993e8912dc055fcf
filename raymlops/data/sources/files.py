"""Parquet or CSV files: one, a list, or all below a folder."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any

import pyarrow as pa

from raymlops.data.hashing import FileHasher
from raymlops.data.sources import formats
from raymlops.data.sources.base import SCHEMA_FILE, Kept, check_names, explained
from raymlops.data.sources.partitions import Partitions
from raymlops.data.sources.table import write_parquet
from raymlops.errors import DataError
from raymlops.storage import Store


@dataclass(frozen=True, kw_only=True)
class DataFile:
    """A file of a dataset: where its bytes are, and its name inside the dataset."""

    name: str
    path: Path


class FilesSource:
    """Files of one kind, in the order of their names.

    Parquet goes into the store as it is. CSV says nothing about types, so it is stored as Parquet
    with the types that were checked, columns in `texts` as they are written: 007 is no 7 there; its
    digest stays that of the CSV. Folders named key=value
    (Hive) add a column each.

    The digest covers the files' contents and partitions, not their names.

    Raises:
        DataError: there are no files, they are of several kinds, or their columns differ.
    """

    format = "parquet"

    def __init__(
        self,
        files: Iterable[DataFile],
        hasher: FileHasher,
        origin: Mapping[str, Any],
        texts: Collection[str] = (),
    ) -> None:
        self._files = tuple(sorted(files, key=lambda file: file.name))
        if not self._files:
            raise DataError(f"{origin.get('path', 'the list')} holds no .parquet or .csv file")
        self._kind = _kind(self._files)
        self._hasher = hasher
        self._partitions = Partitions.of(file.name for file in self._files)
        self._file_schema = _unified(self._kind, self._files, texts)
        self.schema = self._partitions.extend(self._file_schema)
        check_names(origin.get("path", "the dataset"), self.schema)
        self.origin: Mapping[str, Any] = {**origin, "files": len(self._files)}

    @cached_property
    def _digests(self) -> list[str]:
        return self._hasher.digests([file.path for file in self._files])

    @property
    def digest(self) -> str:
        folders = [self._partitions.folder(file.name) for file in self._files]
        if len(self._files) == 1 and not folders[0]:
            return self._digests[0]
        lines = sorted(
            f"{digest} {folder}" for digest, folder in zip(self._digests, folders, strict=True)
        )
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()

    def batches(self, columns: Sequence[str] | None = None) -> Iterator[pa.RecordBatch]:
        for file in self._files:
            with explained(file.path):
                yield from self._partitions.read(
                    formats.read(self._kind, file.path, self._file_schema, columns),
                    file.name,
                    self.schema,
                    columns,
                )

    def keep(self, store: Store) -> Kept:
        if self._kind == "csv":
            return self._keep_converted(store)
        manifest = self._put(store, {file.name: file.path for file in self._files})
        self._check_stored(store.tree(manifest))
        return Kept(manifest=manifest, size_bytes=_size_bytes(file.path for file in self._files))

    def _put(self, store: Store, paths: Mapping[str, Path]) -> str:
        return store.put_tree({**paths, SCHEMA_FILE: self.schema.serialize().to_pybytes()})

    def _keep_converted(self, store: Store) -> Kept:
        with tempfile.TemporaryDirectory(prefix="raymlops-") as folder:
            converted: dict[str, Path] = {}
            for number, file in enumerate(self._files):
                path = Path(folder) / f"{number}.parquet"
                with explained(file.path):
                    rows = formats.read(self._kind, file.path, self._file_schema, None)
                    write_parquet(rows, self._file_schema, path)
                converted[str(PurePosixPath(file.name).with_suffix(".parquet"))] = path
            self._check_unchanged()
            return Kept(
                manifest=self._put(store, converted),
                size_bytes=_size_bytes(converted.values()),
            )

    def _check_stored(self, stored: Mapping[str, str]) -> None:
        for file, digest in zip(self._files, self._digests, strict=True):
            if stored[file.name] != digest:
                raise _changed(file, digest, stored[file.name])

    def _check_unchanged(self) -> None:
        now = self._hasher.digests([file.path for file in self._files])
        for file, before, after in zip(self._files, self._digests, now, strict=True):
            if before != after:
                raise _changed(file, before, after)


def files_below(folder: Path) -> list[DataFile]:
    """Every file below `folder`, by its path inside; hidden ones and those that begin with an
    underscore (_SUCCESS, _metadata) are left out, as by everyone who reads such folders.

    Links to folders are followed.

    Raises:
        DataError: a link leads back to a folder above it, or to nowhere, or a folder is unreadable.
    """
    return list(_walk(folder, folder, frozenset()))


def _walk(root: Path, folder: Path, above: frozenset[tuple[int, int]]) -> Iterator[DataFile]:
    with explained(folder):
        stat = folder.stat()
        entries = sorted(os.listdir(folder))
    place = (stat.st_dev, stat.st_ino)
    if place in above:
        raise DataError(f"{folder} is a link back to a folder above it; remove the link")
    for name in entries:
        path = folder / name
        if name.startswith((".", "_")):
            continue
        if path.is_dir():
            yield from _walk(root, path, above | {place})
        elif path.exists():
            yield DataFile(name=path.relative_to(root).as_posix(), path=path)
        else:
            raise DataError(f"{path} is a link to nowhere; remove it or restore what it names")


def _size_bytes(paths: Iterable[Path]) -> int:
    return sum(path.stat().st_size for path in paths)


def _kind(files: Iterable[DataFile]) -> formats.Kind:
    kinds = {formats.kind_of(file.name): file for file in files}
    if len(kinds) > 1:
        one, other = (str(file.path) for file in list(kinds.values())[:2])
        raise DataError(f"a dataset has files of one kind, not of several: {one} and {other}")
    return next(iter(kinds))


def _unified(kind: formats.Kind, files: Sequence[DataFile], texts: Collection[str]) -> pa.Schema:
    """The schema all files can be read with: the same columns, each of the widest type."""
    unified: pa.Schema | None = None
    for file in files:
        with explained(file.path):
            schema = formats.schema_of(kind, file.path, texts)
            check_names(file.path, schema)
        if unified is None:
            unified = schema
            continue
        _check_columns(files[0], unified, file, schema)
        try:
            unified = pa.unify_schemas([unified, schema], promote_options="permissive")
        except pa.ArrowException as error:
            raise DataError(
                f"{file.path} has other types than the files before it: {error}"
            ) from error
    assert unified is not None
    return unified


def _check_columns(first: DataFile, wanted: pa.Schema, file: DataFile, found: pa.Schema) -> None:
    missing = sorted(set(wanted.names) - set(found.names))
    extra = sorted(set(found.names) - set(wanted.names))
    if missing or extra:
        raise DataError(
            f"{file.path} has other columns than {first.path}: "
            f"without {', '.join(missing) or 'none'}, besides {', '.join(extra) or 'none'}"
        )


def _changed(file: DataFile, before: str, after: str) -> DataError:
    return DataError(
        f"{file.path} changed while it was added, from {before[:12]} to {after[:12]}; add it again "
        "when its writer is done"
    )
