"""Named files under one URI: file, s3 or hdfs."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator, Iterable, Iterator
from pathlib import Path
from typing import TypeVar
from urllib.parse import SplitResult, unquote, urlsplit

from raymlops.errors import StorageError, UnavailableError
from raymlops.storage.base import Backend
from raymlops.storage.chunks import ChunkStream, bytes_chunks, file_chunks
from raymlops.storage.hdfs import Hdfs
from raymlops.storage.local import LocalDisk, replace
from raymlops.storage.names import checked_name
from raymlops.storage.retry import Attempts, RetryPolicy, retried
from raymlops.storage.s3 import S3Address, S3Bucket

Result = TypeVar("Result")

_DEFAULT_RETRY = RetryPolicy()


def absolute_uri(uri: str) -> str:
    """The same place, whatever folder it is asked from: a plain path is made absolute."""
    return uri if "://" in uri else str(Path(uri).absolute())


class Files:
    """Files by relative name, such as 'runs/7/plot.png', below a URI or a plain path.

    A file appears, and is replaced, as a whole or not at all, also when its writer is killed.
    What a server's moment of weakness breaks is tried again as `retry` says, and a stream goes on
    where it was. Files can be pickled; they connect when they are first used.

    Every method raises StorageError when the name leads out of the URI, or when the storage
    refuses, and UnavailableError, a kind of it, when the retries are used up.

    Raises:
        StorageError: the URI is of no kind there is, or malformed.
    """

    def __init__(self, uri: str, *, retry: RetryPolicy = _DEFAULT_RETRY) -> None:
        self.uri = absolute_uri(uri)
        self._retry = retry
        try:
            self._backend = _backend(self.uri)
        except ValueError as error:
            raise StorageError(f"storage.uri '{self}' cannot be used: {error}") from error

    def __str__(self) -> str:
        """The URI without its secret."""
        return redacted(self.uri)

    def __reduce__(self) -> tuple[object, ...]:
        return _files, (self.uri, self._retry)

    @property
    def is_local(self) -> bool:
        """Whether they lie on a disk of this machine, or one that is mounted on it."""
        return isinstance(self._backend, LocalDisk)

    def upload(self, path: Path, name: str) -> None:
        """Copies the local file `path`, in bounded memory."""
        self.write_chunks(name, lambda: source_chunks(path))

    def write(self, name: str, data: bytes, *, private: bool = False) -> None:
        """On a disk a private file, and the folders that are made for it, is open to nobody else;
        who reads what lies in s3 or hdfs is decided there."""
        if private and isinstance(disk := self._backend, LocalDisk):
            checked = checked_name(name)
            self._tried(lambda: disk.write(checked, bytes_chunks(data), private=True))
        else:
            self.write_chunks(name, lambda: bytes_chunks(data))

    def create(self, name: str, data: bytes, *, private: bool = False) -> bool:
        """Writes the file as `write` does, unless there is one already; whether it did.

        Of several who create one file at once, on a disk one does; s3 and hdfs have no such write
        here, and all who looked before the first had written do.
        """
        if isinstance(disk := self._backend, LocalDisk):
            checked = checked_name(name)
            return self._tried(lambda: disk.create(checked, data, private=private))
        if self.exists(name):
            return False
        self.write(name, data)
        return True

    def write_chunks(self, name: str, chunks: Callable[[], Iterable[bytes]]) -> None:
        """Makes what `chunks` returns the file's content; it is called again for every attempt."""
        checked = checked_name(name)
        self._tried(lambda: self._backend.write(checked, chunks()))

    def download(self, name: str, path: Path) -> None:
        """Copies to the local file `path`, which appears when it is complete."""
        if isinstance(disk := self._backend, LocalDisk):  # the kernel copies faster than we do
            checked = checked_name(name)
            with _saving(path):
                self._tried(lambda: disk.copy_out(checked, path))
        else:
            save(path, self.chunks(name))

    def open(self, name: str) -> ChunkStream:
        """A binary stream of the file's bytes, read in bounded memory.

        Raises:
            MissingFileError: at the first read: there is no such file.
        """
        return ChunkStream(self.chunks(name))

    def read(self, name: str) -> bytes:
        return b"".join(self.chunks(name))

    def chunks(self, name: str) -> Generator[bytes, None, None]:
        """The file's bytes in pieces; after a failure that passes, the rest."""
        name = checked_name(name)
        position = 0
        attempts = Attempts(self._retry)
        while True:
            try:
                for chunk in self._backend.read(name, position):
                    attempts.progressed()
                    position += len(chunk)
                    yield chunk
                return
            except UnavailableError as error:
                attempts.wait_after(error)

    def list(self, prefix: str = "") -> Iterator[str]:
        """The names that begin with `prefix`, in no order, however many."""
        folder = prefix.rpartition("/")[0]
        if prefix:
            checked_name(prefix)
        found = self._tried(lambda: list(self._backend.names(folder)))
        return (name for name in found if name.startswith(prefix))

    def copy(self, source: str, target: str) -> None:
        """Copies within the storage, where it can without the bytes passing through here."""
        names = checked_name(source), checked_name(target)
        self._tried(lambda: self._backend.copy(*names))

    def delete(self, name: str) -> None:
        """Removes the file; none there is well too."""
        checked = checked_name(name)
        self._tried(lambda: self._backend.delete(checked))

    def exists(self, name: str) -> bool:
        return self.size(name) is not None

    def size(self, name: str) -> int | None:
        """Bytes; None where there is no such file."""
        checked = checked_name(name)
        return self._tried(lambda: self._backend.size_bytes(checked))

    def _tried(self, call: Callable[[], Result]) -> Result:
        return retried(call, Attempts(self._retry))


def source_chunks(path: Path) -> Iterator[bytes]:
    """The bytes of a local file, whose failures are not the storage's."""
    try:
        yield from file_chunks(path)
    except OSError as error:
        raise StorageError(f"{path} cannot be read: {error}") from error


def save(path: Path, chunks: Iterable[bytes], *, durable: bool = False) -> None:
    """Makes `chunks` a local file, which appears when it is complete."""
    with _saving(path):
        replace(path, chunks, staging=path.parent, durable=durable)


@contextlib.contextmanager
def _saving(path: Path) -> Iterator[None]:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        raise StorageError(f"{path} cannot be written: {error}; nothing half-written stays") from (
            error
        )


def redacted(uri: str) -> str:
    """A URI whose user's secret is replaced by stars."""
    user, at, rest = uri.rpartition("@")
    scheme, _, keys = user.partition("://")
    return f"{scheme}://{keys.partition(':')[0]}:***@{rest}" if at and ":" in keys else uri


def _backend(uri: str) -> Backend:
    parts = urlsplit(uri) if "://" in uri else SplitResult("", "", uri, "", "")
    if parts.fragment:
        raise ValueError("it has a '#'; write %23")
    match parts.scheme:
        case "":
            return LocalDisk(Path(uri))
        case "file":
            if parts.netloc not in ("", "localhost"):
                raise ValueError(f"it names the machine '{parts.netloc}'; write file:///PATH")
            return LocalDisk(Path(unquote(parts.path)))
        case "s3":
            return S3Bucket(S3Address.parse(parts))
        case "hdfs":
            return Hdfs(parts)
    raise ValueError(f"'{parts.scheme}' is none of file, s3 and hdfs")


def _files(uri: str, retry: RetryPolicy) -> Files:
    return Files(uri, retry=retry)
