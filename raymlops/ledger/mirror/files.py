"""Files of the store among the artifacts of a run in MLflow, or a note why one is not there."""

from __future__ import annotations

import json

from raymlops.errors import IntegrityError
from raymlops.ledger.mirror.target import Target
from raymlops.storage import Store


class Files:
    """Copies files of up to `max_bytes`; in the place of others lies NAME.reference.json."""

    def __init__(self, store: Store, target: Target, max_bytes: int) -> None:
        self._store = store
        self._target = target
        self._max_bytes = max_bytes

    @property
    def where(self) -> str:
        """The store, to be shown."""
        return str(self._store)

    def text(self, key: str, name: str, text: str) -> None:
        """Puts `text` among the artifacts of MLflow's run `key` as `name`, a relative path."""
        self._target.file(key, name, text.encode())

    def blob(self, key: str, name: str, digest: str, *, size_bytes: int | None = None) -> None:
        """Raises StorageError when the store cannot be reached."""
        if size_bytes is not None and size_bytes > self._max_bytes:
            self._refer(key, name, digest, self._too_large(size_bytes))
        elif not self._store.exists(digest):
            self._refer(key, name, digest, "the store does not hold it")
        else:
            self._copy(key, name, digest)

    def tree(self, key: str, folder: str, digest: str) -> None:
        """Raises StorageError when the store cannot be reached."""
        if not self._store.exists(digest):
            self._refer(key, folder, digest, "the store does not hold it")
            return
        for name, blob in self._store.tree(digest).items():
            self.blob(key, f"{folder}/{name}", blob)

    def _copy(self, key: str, name: str, digest: str) -> None:
        try:
            data = self._store.get(digest)
        except IntegrityError as error:
            self._refer(key, name, digest, str(error))
            return
        if len(data) > self._max_bytes:
            self._refer(key, name, digest, self._too_large(len(data)))
        else:
            self._target.file(key, name, data)

    def _refer(self, key: str, name: str, digest: str, why: str) -> None:
        note = {"digest": digest, "store": self.where, "not_copied_because": why}
        self.text(key, f"{name}.reference.json", json.dumps(note, indent=2))

    def _too_large(self, size_bytes: int) -> str:
        return f"it has {size_bytes} bytes, files are copied up to {self._max_bytes}"
