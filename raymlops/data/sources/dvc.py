"""DVC pointers: what a `.dvc` file says, and where its bytes are.

A pointer is a YAML file that names one output with its MD5; the bytes lie in DVC's cache under that
MD5, those of a folder listed in a `.dir` file there. This is all of the format that matters here,
so it is read and written directly; the package dvc, with its 50 dependencies, is only needed to
fetch (`dvc pull`) and share (`dvc push`).
"""

from __future__ import annotations

import configparser
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import orjson
import yaml

from raymlops.data.hashing import FileHasher
from raymlops.data.sources.files import DataFile
from raymlops.errors import DataError, IntegrityError

SUFFIX = ".dvc"
_DIR = ".dir"


@dataclass(frozen=True, kw_only=True)
class Pointer:
    """A `.dvc` file: its only output `path` beside it, a file or a folder, and the MD5."""

    file: Path
    path: str
    md5: str
    size_bytes: int | None
    num_files: int | None

    @property
    def target(self) -> Path:
        return self.file.parent / self.path

    @property
    def origin(self) -> Mapping[str, Any]:
        return {
            "kind": "dvc",
            "path": str(self.file),
            "md5": self.md5,
            "size_bytes": self.size_bytes,
        }


def read_pointer(file: Path) -> Pointer:
    """The pointer in `file`.

    Raises:
        DataError: it is no pointer to one file or folder beside it, hashed by MD5.
    """
    try:
        content = yaml.safe_load(file.read_text())
        (out,) = content["outs"]
        pointer = Pointer(
            file=file,
            path=_inside(out["path"], file),
            md5=_digest(out["md5"], file),
            size_bytes=out.get("size"),
            num_files=out.get("nfiles"),
        )
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise DataError(f"{file} cannot be read: {error}") from error
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DataError(
            f"{file} is no DVC pointer to one file or folder with an md5: {error!r}"
        ) from error
    if out.get("hash", "md5") != "md5":
        raise DataError(f"{file} is hashed by {out['hash']}; only md5 is read")
    return pointer


def resolve(pointer: Pointer, hasher: FileHasher) -> list[DataFile]:
    """The files the pointer stands for, each with the MD5 it must have: from DVC's cache, or
    from the workspace where the cache lacks them.

    Raises:
        IntegrityError: bytes were found, but not with that MD5.
        DataError: they are in neither place.
    """
    cache = Cache.of(pointer.file)
    if not pointer.md5.endswith(_DIR):
        wanted = {PurePosixPath(pointer.path).name: (pointer.md5, pointer.target)}
    else:
        wanted = {
            name: (md5, pointer.target / name)
            for name, md5 in _listing(pointer, cache, hasher).items()
        }
    names = sorted(wanted)
    places = [_place(pointer, cache, *wanted[name]) for name in names]
    for name, place, found in zip(names, places, hasher.digests(places, "md5"), strict=True):
        if found != wanted[name][0]:
            raise IntegrityError(
                f"{pointer.file} wants {name} with md5 {wanted[name][0]}, but {place} has {found}; "
                "`dvc pull` or `dvc checkout` restores it"
            )
    return [DataFile(name=name, path=place) for name, place in zip(names, places, strict=True)]


@dataclass(frozen=True)
class Cache:
    """DVC's cache of the repository `root`."""

    root: Path
    folder: Path

    @classmethod
    def of(cls, path: Path) -> Cache:
        """The cache of the DVC repository that `path` lies in.

        Raises:
            DataError: no folder above has a `.dvc` folder.
        """
        for root in path.resolve().parents:
            if (root / ".dvc").is_dir():
                return cls(root, _configured(root) or root / ".dvc" / "cache")
        raise DataError(f"{path} lies in no DVC repository; run `dvc init` where it begins")

    def blob(self, md5: str) -> Path:
        return self.folder / "files" / "md5" / md5[:2] / md5[2:]

    def places(self, md5: str) -> Sequence[Path]:
        """Where the blob may lie; DVC 2 had no folder for the kind of hash."""
        return (self.blob(md5), self.folder / md5[:2] / md5[2:])


def tree_bytes(md5_by_name: Mapping[str, str]) -> bytes:
    """The `.dir` file of a folder; its MD5 names the folder, so every byte is as DVC writes it."""
    entries = [{"md5": md5_by_name[name], "relpath": name} for name in sorted(md5_by_name)]
    return json.dumps(entries, sort_keys=True).encode()  # orjson spaces and escapes otherwise


def _listing(pointer: Pointer, cache: Cache, hasher: FileHasher) -> dict[str, str]:
    """MD5 by name of every file in the pointer's folder."""
    place = next((each for each in cache.places(pointer.md5) if each.is_file()), None)
    if place is None:
        raise DataError(
            f"{pointer.file} stands for a folder whose list is not in {cache.folder}; "
            "run `dvc pull`"
        )
    (found,) = hasher.digests([place], "md5")
    if found != pointer.md5.removesuffix(_DIR):
        raise IntegrityError(f"{place} should have md5 {pointer.md5}, it has {found}; `dvc pull`")
    try:
        rows = orjson.loads(place.read_bytes())
        return {_inside(row["relpath"], place): _digest(row["md5"], place) for row in rows}
    except (orjson.JSONDecodeError, KeyError, TypeError, ValueError) as error:
        raise DataError(f"{place} is no list of a DVC folder: {error!r}") from error


def _place(pointer: Pointer, cache: Cache, md5: str, workspace: Path) -> Path:
    for place in (*cache.places(md5), workspace):
        if place.is_file():
            return place
    raise DataError(
        f"{pointer.file}: {workspace.name} is neither in {cache.folder} nor beside the pointer; "
        "run `dvc pull`"
    )


def _configured(root: Path) -> Path | None:
    """`cache.dir` of DVC's configuration, relative to the file that says it."""
    for name in ("config.local", "config"):
        parser = configparser.ConfigParser(interpolation=None)
        try:
            parser.read(root / ".dvc" / name)
        except configparser.Error as error:
            raise DataError(f"{root / '.dvc' / name} cannot be read: {error}") from error
        folder = parser.get("cache", "dir", fallback=None)
        if folder is not None:
            return root / ".dvc" / folder
    return None


def _inside(name: str, file: Path) -> str:
    path = PurePosixPath(name)
    if not path.parts or path.is_absolute() or ".." in path.parts:
        raise DataError(f"{file} names '{name}', which lies outside its folder; refused")
    return str(path)


def _digest(text: str, file: Path) -> str:
    digits = text.removesuffix(_DIR)
    if len(digits) != 32 or not set(digits) <= set("0123456789abcdef"):
        raise DataError(f"{file} names '{text}', which is no md5")
    return text
