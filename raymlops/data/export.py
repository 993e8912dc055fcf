"""Writes a dataset version where DVC tracks it: the files, their cache entries and the pointer."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from raymlops.data.datasets import open_dataset
from raymlops.data.hashing import FileHasher
from raymlops.data.sources.base import SCHEMA_FILE
from raymlops.data.sources.dvc import SUFFIX, Cache, tree_bytes
from raymlops.data.sources.table import write_parquet
from raymlops.errors import DataError
from raymlops.ledger import Dataset
from raymlops.storage import Store

_READ_ONLY = 0o444  # as DVC leaves its cache


def export_dvc(store: Store, dataset: Dataset, folder: Path) -> Path:
    """Writes the version into `folder` as NAME.parquet, or NAME/ where it has many files; returns
    the pointer beside it, which `dvc push` shares and git keeps.

    Raises:
        DataError: `folder` lies in no DVC repository, or holds something of that name already.
    """
    folder.mkdir(parents=True, exist_ok=True)
    pointer = folder / f"{dataset.name}.parquet{SUFFIX}"
    cache = Cache.of(pointer)
    blobs = {
        name: blob for name, blob in store.tree(dataset.manifest).items() if name != SCHEMA_FILE
    }
    if dataset.format == "parquet" and len(blobs) > 1:
        pointer = folder / f"{dataset.name}{SUFFIX}"
        out = _export_folder(store, blobs, pointer.with_suffix(""), cache)
    else:
        out = _export_file(store, dataset, pointer.with_suffix(""), cache)
    _write_new(pointer, yaml.safe_dump({"outs": [out]}, sort_keys=False).encode())
    _ignore(pointer.with_suffix(""))
    return pointer


def _export_file(store: Store, dataset: Dataset, path: Path, cache: Cache) -> dict[str, Any]:
    _refuse_existing(path)
    rows = open_dataset(store, dataset)
    write_parquet(rows.batches(), rows.schema, path)
    (md5,) = FileHasher().digests([path], "md5")
    _cache(path, cache.blob(md5))
    return {"md5": md5, "size": path.stat().st_size, "hash": "md5", "path": path.name}


def _export_folder(
    store: Store, blobs: Mapping[str, str], folder: Path, cache: Cache
) -> dict[str, Any]:
    _refuse_existing(folder)
    names = sorted(blobs)
    paths = [folder / name for name in names]
    for name, path in zip(names, paths, strict=True):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(store.get(blobs[name]))
    md5s = FileHasher().digests(paths, "md5")
    for path, md5 in zip(paths, md5s, strict=True):
        _cache(path, cache.blob(md5))
    listing = tree_bytes(dict(zip(names, md5s, strict=True)))
    md5 = f"{hashlib.md5(listing, usedforsecurity=False).hexdigest()}.dir"
    blob = cache.blob(md5)
    if not blob.exists():
        _write_new(blob, listing)
        blob.chmod(_READ_ONLY)
    return {
        "md5": md5,
        "size": sum(path.stat().st_size for path in paths),
        "nfiles": len(paths),
        "hash": "md5",
        "path": folder.name,
    }


def _cache(path: Path, blob: Path) -> None:
    if blob.exists():
        return
    blob.parent.mkdir(parents=True, exist_ok=True)
    staging = blob.with_name(f".{blob.name}.{os.getpid()}")
    shutil.copyfile(path, staging)
    staging.chmod(_READ_ONLY)
    staging.rename(blob)


def _refuse_existing(path: Path) -> None:
    if path.exists():
        raise DataError(f"{path} exists already; export into another folder, or remove it")


def _write_new(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with path.open("xb") as file:
            file.write(content)
    except FileExistsError as error:
        raise DataError(f"{path} exists already; export into another folder") from error


def _ignore(path: Path) -> None:
    """Keeps the data itself out of git, as `dvc add` does."""
    ignored = path.parent / ".gitignore"
    line = f"/{path.name}"
    lines = ignored.read_text().splitlines() if ignored.exists() else []
    if line not in lines:
        ignored.write_text("\n".join([*lines, line, ""]))
