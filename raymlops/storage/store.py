"""Blobs and trees by the SHA-256 of their content, over named files."""

from __future__ import annotations

import hashlib
import secrets
import shutil
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from pathlib import Path

import orjson

from raymlops.errors import MissingFileError, StorageError
from raymlops.storage.chunks import ChunkStream, bytes_chunks, verified
from raymlops.storage.files import Files, save, source_chunks
from raymlops.storage.names import checked_digest, checked_name
from raymlops.storage.pointers import Pointers
from raymlops.storage.retry import RetryPolicy

_DEFAULT_RETRY = RetryPolicy()


class Store:
    """Blobs by the digest of their bytes, and trees of named blobs by the digest of their list.

    A tree is visible only through its digest, which exists once every blob of it is in place: so
    nobody can see half an artifact, and writing the same artifact twice costs no space. Every
    byte that is read is verified.

    Raises:
        StorageError: the URI is of no kind there is, or malformed.
    """

    def __init__(self, uri: str, *, retry: RetryPolicy = _DEFAULT_RETRY) -> None:
        self.files = Files(uri, retry=retry)
        self._pointers = Pointers(self.files)

    @property
    def uri(self) -> str:
        """Holds the secret if the URI was given with one; `str(store)` does not."""
        return self.files.uri

    def __str__(self) -> str:
        return str(self.files)

    def put(self, data: bytes) -> str:
        """Stores `data` and returns its digest."""
        digest = hashlib.sha256(data).hexdigest()
        self._publish(digest, len(data), lambda: bytes_chunks(data))
        return digest

    def put_file(self, path: Path) -> str:
        """Stores the file's bytes in bounded memory and returns their digest.

        Raises:
            StorageError: the file cannot be read, or somebody changes it meanwhile.
        """
        before = _stamp(path)
        digest = file_digest(path)

        def chunks() -> Iterator[bytes]:
            yield from source_chunks(path)
            if _stamp(path) != before:  # raised here, it keeps the blob from appearing
                raise StorageError(f"{path} changed while it was stored; store it again")

        self._publish(digest, before[0], chunks)
        return digest

    def get(self, digest: str) -> bytes:
        """The blob's bytes.

        Raises:
            MissingFileError: there is no such blob.
            IntegrityError: its bytes are no longer those that were stored.
        """
        return b"".join(self._verified(digest))

    def open(self, digest: str) -> ChunkStream:
        """A binary stream of the blob's bytes, verified as they are read.

        Wrong bytes raise IntegrityError before the last of them is handed out. Closing the stream
        early reads and verifies the rest.
        """
        return ChunkStream(self._verified(digest), to_the_end=True)

    def fetch(self, digest: str, path: Path) -> None:
        """Writes the blob to `path`, which appears when the bytes are verified."""
        save(path, self._verified(digest))

    def verify(self, digest: str) -> None:
        """Reads the whole blob, in bounded memory, and keeps nothing of it; raises as `get`."""
        deque(self._verified(digest), maxlen=0)

    def verify_tree(self, digest: str) -> None:
        """Verifies every blob of a tree."""
        for blob in self.tree(digest).values():
            self.verify(blob)

    def exists(self, digest: str) -> bool:
        """Whether a blob of that digest was stored."""
        return self.files.exists(_blob(digest))

    def below(self, name: str) -> str:
        """The URI of a folder beside the blobs, for what others keep there themselves."""
        path, question, options = self.uri.partition("?")
        return f"{path.rstrip('/')}/{checked_name(name)}{question}{options}"

    def put_tree(self, files: Mapping[str, Path | bytes]) -> str:
        """Stores files under relative names and returns the digest of the tree."""
        blobs = {
            checked_name(name): self.put(source)
            if isinstance(source, bytes)
            else self.put_file(source)
            for name, source in files.items()
        }
        return self.put(orjson.dumps(blobs, option=orjson.OPT_SORT_KEYS))

    def tree(self, digest: str) -> dict[str, str]:
        """Blob digests by relative name."""
        listing: dict[str, str] = orjson.loads(self.get(digest))
        return {checked_name(name): blob for name, blob in listing.items()}

    def read_tree(self, digest: str) -> dict[str, bytes]:
        """The verified contents of a tree, by relative name."""
        return {name: self.get(blob) for name, blob in self.tree(digest).items()}

    def fetch_tree(self, digest: str, folder: Path) -> Path:
        """Writes a tree's verified files below `folder`, in a folder named by the digest.

        A folder that is there already is complete, because it is renamed into place, and is
        returned at once.
        """
        target = folder / digest
        if target.is_dir():
            return target
        staging = folder / f".{digest}.{secrets.token_hex(4)}"
        try:
            for name, blob in self.tree(digest).items():
                # What is renamed into place is taken as complete, also after a power cut.
                save(staging / name, self._verified(blob), durable=True)
            staging.rename(target)
        except OSError:
            if not target.is_dir():  # otherwise another process was quicker, with the same bytes
                raise
        finally:
            shutil.rmtree(staging, ignore_errors=True)
        return target

    def point(self, name: str, digest: str, *, token: int) -> None:
        """Lets `name` point to a blob or tree, in the name of the holder of `token`.

        `token` is that of the lease under which the caller acts; the same holder may point again.

        Raises:
            StaleLeaseError: a newer holder has pointed it already; nothing changes.
            MissingFileError: there is no such blob.
        """
        if not self.exists(digest):
            raise MissingFileError(f"'{name}' cannot point to {digest}, which is not in {self}")
        self._pointers.point(name, digest, token=token)

    def resolve(self, name: str) -> str:
        """The digest that the newest holder let `name` point to.

        Raises:
            MissingFileError: it points to nothing.
        """
        return self._pointers.resolve(name)

    def _publish(self, digest: str, size: int, chunks: Callable[[], Iterable[bytes]]) -> None:
        name = _blob(digest)
        if self.files.size(name) != size:  # a blob of another size is damaged, and is replaced
            self.files.write_chunks(name, chunks)

    def _verified(self, digest: str) -> Generator[bytes, None, None]:
        try:
            yield from verified(self.files.chunks(_blob(digest)), digest, where=str(self))
        except MissingFileError as error:
            raise MissingFileError(f"{self} holds no blob {digest}") from error


def file_digest(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise StorageError(f"{path} cannot be read: {error}") from error


def _blob(digest: str) -> str:
    return f"blobs/{checked_digest(digest)[:2]}/{digest}"


def _stamp(path: Path) -> tuple[int, int, int, int]:
    """What changes, on its own, with a file's content: size first."""
    try:
        status = path.stat()
    except OSError as error:
        raise StorageError(f"{path} cannot be read: {error}") from error
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino
