"""A node a key."""

from __future__ import annotations

import contextlib
import queue
from collections.abc import Iterator

from kazoo.exceptions import BadVersionError, NodeExistsError, NoNodeError

from raymlops.coordination.base import Entry, checked_value
from raymlops.coordination.deadline import Deadline
from raymlops.coordination.names import name_of, segment
from raymlops.coordination.watch import Watch
from raymlops.coordination.zookeeper.session import ZooKeeperSession
from raymlops.coordination.zookeeper.writes import Writes


class ZooKeeperKeyValue:
    """`folder` is the node above the keys; it counts their deletions.

    An entry's version is the transaction that wrote it (mzxid). ZooKeeper itself compares the
    number of writes to a node, which starts again when a key is deleted and created anew; so a
    write that compares also makes sure that nothing was deleted since it looked.
    """

    def __init__(self, session: ZooKeeperSession, writes: Writes, folder: str) -> None:
        self._session = session
        self._client = session.client
        self._writes = writes
        self._folder = folder

    def get(self, key: str) -> Entry | None:
        try:
            value, stat = self._session.read(self._client.get_async, self._path(key))
        except NoNodeError:
            return None
        return Entry(value=value, version=stat.mzxid)

    def set(self, key: str, value: bytes) -> Entry:
        path = self._path(key)
        while True:
            with contextlib.suppress(NoNodeError):
                version = self._writes.commit(
                    lambda write: write.set_data(path, checked_value(value))
                )
                return Entry(value=value, version=version)
            if (entry := self._create(key, value)) is not None:
                return entry

    def compare_and_set(self, key: str, value: bytes, *, version: int) -> Entry | None:
        if version == 0:
            return self._create(key, value)
        path = self._path(key)
        while True:
            folder = self._session.read(self._client.exists_async, self._folder)
            node = self._session.read(self._client.exists_async, path)
            if folder is None or node is None or node.mzxid != version:
                return None
            with contextlib.suppress(BadVersionError, NoNodeError):
                written = self._writes.commit(
                    lambda write: (
                        write.check(self._folder, folder.version),  # noqa: B023
                        write.set_data(path, checked_value(value), node.version),  # noqa: B023
                    )
                )
                return Entry(value=value, version=written)

    def delete(self, key: str) -> bool:
        path = self._path(key)
        try:
            self._writes.commit(
                lambda write: (write.delete(path), write.set_data(self._folder, b""))
            )
        except NoNodeError:
            return False
        return True

    def keys(self) -> list[str]:
        try:
            nodes = self._session.read(self._client.get_children_async, self._folder)
        except NoNodeError:
            return []
        return sorted(map(name_of, nodes))

    @contextlib.contextmanager
    def watch(self, key: str) -> Iterator[Watch[Entry | None]]:
        path = self._path(key)
        with self._session.watching(path) as events:

            def read() -> Entry | None:
                watch = self._session.on_event
                while True:
                    with contextlib.suppress(NoNodeError):
                        value, stat = self._session.read(self._client.get_async, path, watch=watch)
                        return Entry(value=value, version=stat.mzxid)
                    # Only `exists` can watch for what is not there yet.
                    if self._session.read(self._client.exists_async, path, watch=watch) is None:
                        return None

            def wait(deadline: Deadline) -> None:
                try:
                    events.get(timeout=deadline.left_s)
                except queue.Empty as error:
                    message = f"'{key}' did not change within {deadline.timeout_s:g} s"
                    raise TimeoutError(message) from error

            yield Watch(read=read, wait=wait)

    def _create(self, key: str, value: bytes) -> Entry | None:
        """None when there is such a key already."""
        path = self._path(key)
        self._session.ensure(self._folder)
        while True:
            try:
                version = self._writes.commit(
                    lambda write: write.create(path, checked_value(value))
                )
            except NodeExistsError:
                return None
            except NoNodeError:  # somebody removed the folder
                self._session.recreate(self._folder)
            else:
                return Entry(value=value, version=version)

    def _path(self, key: str) -> str:
        return f"{self._folder}/{segment(key)}"
