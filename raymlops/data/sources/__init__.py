"""Where rows come from: a table, files, a Delta table, a DVC pointer."""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from datetime import datetime
from pathlib import Path

import pyarrow as pa

from raymlops.data.hashing import FileHasher
from raymlops.data.sources import dvc
from raymlops.data.sources.base import Source, explained
from raymlops.data.sources.delta import DeltaRows, DeltaSource, is_delta
from raymlops.data.sources.files import DataFile, FilesSource, files_below
from raymlops.data.sources.stored import StoredRows
from raymlops.data.sources.table import TableSource
from raymlops.errors import DataError

__all__ = [
    "DataFile",
    "DeltaRows",
    "DeltaSource",
    "FilesSource",
    "Source",
    "StoredRows",
    "TableSource",
    "open_source",
]


def open_source(
    what: pa.Table | str | Path | Sequence[str | Path],
    *,
    hasher: FileHasher | None = None,
    version: int | None = None,
    at: datetime | None = None,
    texts: Collection[str] = (),
) -> Source:
    """The rows of a table, a Parquet or CSV file, a folder or list of them, a DVC pointer
    (`.dvc`), or a Delta table (a folder with a `_delta_log`, or a URI such as s3://...).

    Columns of CSV files that are named in `texts` are read as they are written. `version` and `at`
    choose a state of a Delta table; `hasher` may remember digests of files.

    Raises:
        DataError: it cannot be read, or is none of these.
        IntegrityError: the bytes behind a DVC pointer are not those it names.
    """
    hasher = hasher or FileHasher()
    if isinstance(what, str | Path):
        with explained(what):
            if "://" in str(what) or is_delta(Path(what)):
                return DeltaSource(str(what), hasher, version=version, at=at)
    if version is not None or at is not None:
        raise DataError("only a Delta table has versions and times to choose from")
    if isinstance(what, pa.Table):
        return TableSource(what)
    with explained(what):
        if isinstance(what, str | Path):
            return _of_path(Path(what), hasher, texts)
        return _of_list([Path(each) for each in what], hasher, texts)


def _of_path(path: Path, hasher: FileHasher, texts: Collection[str]) -> Source:
    if path.suffix == dvc.SUFFIX and path.is_file():
        pointer = dvc.read_pointer(path)
        return FilesSource(dvc.resolve(pointer, hasher), hasher, pointer.origin, texts)
    if path.is_dir():
        return FilesSource(files_below(path), hasher, {"kind": "folder", "path": str(path)}, texts)
    return FilesSource(
        [DataFile(name=path.name, path=path)], hasher, {"kind": "file", "path": str(path)}, texts
    )


def _of_list(paths: list[Path], hasher: FileHasher, texts: Collection[str]) -> Source:
    if not paths:
        raise DataError("the list of files is empty")
    above = os.path.commonpath([path.absolute().parent for path in paths])
    files = [
        DataFile(name=path.absolute().relative_to(above).as_posix(), path=path) for path in paths
    ]
    doubled = len({file.name for file in files}) < len(files)
    if doubled:
        raise DataError(f"a file is listed twice among {', '.join(map(str, paths))}")
    return FilesSource(files, hasher, {"kind": "files", "path": above}, texts)
