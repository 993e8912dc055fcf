"""Values as files that are renamed into place."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from raymlops.coordination.base import Entry, checked_value
from raymlops.coordination.embedded.disk import explained, make_folder, sync_folder
from raymlops.coordination.embedded.inotify import changes_in
from raymlops.coordination.embedded.numbers import Numbers
from raymlops.coordination.names import name_of, segment
from raymlops.coordination.watch import Watch


class EmbeddedKeyValue:
    """A file a key, which begins with its version; writers take turns, readers never wait."""

    def __init__(self, folder: Path) -> None:
        self._values = folder / "values"
        self._next = folder / "next"
        self._versions = Numbers(folder / "versions")

    def get(self, key: str) -> Entry | None:
        try:
            version, _, value = self._path(key).read_bytes().partition(b"\n")
        except FileNotFoundError:
            return None
        return Entry(value=value, version=int(version))

    def set(self, key: str, value: bytes) -> Entry:
        with explained(self._values), self._versions.next() as version:
            return self._write(key, value, version)

    def compare_and_set(self, key: str, value: bytes, *, version: int) -> Entry | None:
        with explained(self._values), self._versions.next() as next_version:
            present = self.get(key)
            if (present.version if present else 0) != version:
                return None
            return self._write(key, value, next_version)

    def delete(self, key: str) -> bool:
        with explained(self._values), self._versions.next():
            try:
                self._path(key).unlink()
            except FileNotFoundError:
                return False
            sync_folder(self._values)
            return True

    def keys(self) -> list[str]:
        try:
            return sorted(map(name_of, os.listdir(self._values)))
        except FileNotFoundError:
            return []

    @contextlib.contextmanager
    def watch(self, key: str) -> Iterator[Watch[Entry | None]]:
        self._path(key)  # a name that cannot be is refused here, not at the first wait
        make_folder(self._values)
        with changes_in(self._values) as changes:
            yield Watch(read=lambda: self.get(key), wait=changes.wait)

    def _write(self, key: str, value: bytes, version: int) -> Entry:
        path = self._path(key)
        make_folder(self._values)
        with self._next.open("wb") as file:
            file.write(b"%d\n" % version + checked_value(value))
            file.flush()
            os.fsync(file.fileno())
        self._next.replace(path)
        sync_folder(self._values)
        return Entry(value=value, version=version)

    def _path(self, key: str) -> Path:
        return self._values / segment(key)
