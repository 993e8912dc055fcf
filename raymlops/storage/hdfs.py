"""Files in HDFS, through hdfs-native, which speaks its protocol and needs no Java."""

from __future__ import annotations

import contextlib
import re
import secrets
from collections.abc import Iterable, Iterator
from functools import cached_property
from pathlib import PurePosixPath
from typing import TYPE_CHECKING
from urllib.parse import SplitResult, unquote

from raymlops.errors import MissingFileError, StorageError, UnavailableError
from raymlops.storage.names import STAGING

if TYPE_CHECKING:
    import hdfs_native

# One quick attempt at each name node: `Files` knows when to try again, and for how long.
_CONFIG = {
    "dfs.client.failover.max.attempts": "2",
    "dfs.client.failover.sleep.base.millis": "50",
    "dfs.client.failover.sleep.max.millis": "200",
}
_PASSES = re.compile(
    r"StandbyException|SafeModeException|RetriableException|ServerTooBusy|LeaseExpired"
    r"|timed out|connection|broken pipe|unexpected end of file|early eof|lookup address"
    r"|DataTransfer|No(tEnough)?Replica|checksum",
    re.I,
)
_FULL = re.compile(r"QuotaExceeded|replicated to 0 nodes|NotEnoughReplicas|no space|DiskOutOfSpace")


class Hdfs:
    """Files below a folder. What is being written lies in a folder of its own, then is renamed."""

    def __init__(self, uri: SplitResult) -> None:
        if "@" in uri.netloc:
            raise ValueError("HDFS takes its user from HADOOP_USER_NAME or Kerberos, not the URI")
        if uri.query:
            raise ValueError(f"HDFS takes no options, and this has '{uri.query}'")
        self._url = f"hdfs://{uri.netloc}" if uri.netloc else None
        self._root = PurePosixPath("/", unquote(uri.path).strip("/"))
        self.where = f"{self._url or 'hdfs:// of the configuration'}{self._root}"

    def size_bytes(self, name: str) -> int | None:
        try:
            with self._explained(name):
                status = self._client.get_file_info(self._path(name))
                return None if status.isdir else status.length
        except MissingFileError:
            return None

    def read(self, name: str, start: int = 0) -> Iterator[bytes]:
        with self._explained(name):
            file = self._client.read(self._path(name))
            yield from file.read_range_stream(start, len(file) - start)

    def write(self, name: str, chunks: Iterable[bytes]) -> None:
        staged, path = self._path(f"{STAGING}/{secrets.token_hex(8)}"), self._path(name)
        with self._explained(name):
            writer = self._client.create(staged)
            try:
                with writer:
                    for chunk in chunks:
                        writer.write(chunk)
                self._client.mkdirs(str(PurePosixPath(path).parent), create_parent=True)
                self._client.rename(staged, path, overwrite=True)
            except BaseException:
                with contextlib.suppress(Exception):  # what went wrong before is what is told
                    self._client.delete(staged)
                raise

    def names(self, folder: str) -> Iterator[str]:
        top = self._path(folder) if folder else str(self._root)
        try:
            with self._explained(folder):
                for status in self._client.list_status(top, recursive=True):
                    name = str(PurePosixPath(status.path).relative_to(self._root))
                    if not status.isdir and PurePosixPath(name).parts[0] != STAGING:
                        yield name
        except MissingFileError:
            return

    def copy(self, source: str, target: str) -> None:
        self.write(target, self.read(source))

    def delete(self, name: str) -> None:
        with self._explained(name), contextlib.suppress(FileNotFoundError):
            self._client.delete(self._path(name))

    @cached_property
    def _client(self) -> hdfs_native.Client:
        try:
            import hdfs_native
        except ImportError as error:
            raise StorageError(
                f"{self.where} needs hdfs-native; pip install 'raymlops[hdfs]'"
            ) from error
        with self._explained(""):
            return hdfs_native.Client(self._url, _CONFIG)

    @contextlib.contextmanager
    def _explained(self, name: str) -> Iterator[None]:
        try:
            yield
        except (OSError, RuntimeError) as error:
            raise explain(error, name, self.where) from error

    def _path(self, name: str) -> str:
        return str(self._root / name)


def explain(error: OSError | RuntimeError, name: str, where: str) -> StorageError:
    """What hdfs-native's error means, and what to do about it."""
    # The first line says it all; what follows is the server's stack.
    text = re.split(r"\n|\\n", str(error))[0]
    if isinstance(error, FileNotFoundError):
        return MissingFileError(f"there is no file '{name}' in {where}")
    if "AccessControlException" in text or isinstance(error, PermissionError):
        return StorageError(
            f"'{name}' in {where} is refused: {text}; set HADOOP_USER_NAME to a user who may, or"
            " have the folder given to this one"
        )
    if _FULL.search(text):
        return StorageError(
            f"'{name}' cannot be written, {where} is over its quota or no data node has room:"
            f" {text}; free some space or raise the quota and call again"
        )
    if isinstance(error, OSError) or _PASSES.search(text):
        return UnavailableError(
            f"{where} does not answer: {text}; check that the name node runs and that the URI has"
            " its RPC port"
        )
    return StorageError(f"'{name}' in {where} cannot be used: {text}")
