"""Content-addressed blobs and trees under one URI: file, s3 or hdfs, through pyarrow."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath

import orjson
from pyarrow import fs as arrow_fs

from raymlops.errors import IntegrityError, StorageError

_CHUNK_BYTES = 1 << 20


class Store:
    """Blobs by the SHA-256 of their bytes, and trees of named blobs by the digest of their list.

    A tree is visible only through its digest, which exists once every blob of it is in place: so
    nobody can see half an artifact, and writing the same artifact twice costs no space.

    Raises:
        StorageError: the URI names no file system that can be reached.
    """

    def __init__(self, uri: str) -> None:
        self.uri = uri
        try:
            if "://" in uri:
                self._fs, self._root = arrow_fs.FileSystem.from_uri(uri)
            else:
                self._fs, self._root = arrow_fs.LocalFileSystem(), str(Path(uri).resolve())
        except (OSError, ValueError) as error:
            raise StorageError(f"storage.uri '{uri}' cannot be used: {error}") from error
        self._is_local = isinstance(self._fs, arrow_fs.LocalFileSystem)

    def put(self, data: bytes) -> str:
        """Stores `data` and returns its digest."""
        digest = hashlib.sha256(data).hexdigest()
        self._publish(digest, iter((data,)))
        return digest

    def put_file(self, path: Path) -> str:
        """Stores the file's bytes in bounded memory and returns their digest."""
        digest = file_digest(path)
        self._publish(digest, _chunks(path))
        return digest

    def get(self, digest: str) -> bytes:
        """The blob's bytes.

        Raises:
            StorageError: there is no such blob.
            IntegrityError: its bytes are no longer those that were stored.
        """
        try:
            with self._fs.open_input_stream(self._path(digest)) as stream:
                data: bytes = stream.read()
        except FileNotFoundError as error:
            raise StorageError(f"{self.uri} holds no blob {digest}") from error
        found = hashlib.sha256(data).hexdigest()
        if found != digest:
            raise IntegrityError(f"blob {digest} in {self.uri} now has digest {found}; refused")
        return data

    def below(self, name: str) -> str:
        """The URI of a folder beside the blobs, for what others keep there themselves."""
        return f"{self.uri.rstrip('/')}/{_safe_name(name)}"

    def exists(self, digest: str) -> bool:
        info = self._fs.get_file_info(self._path(digest))
        return bool(info.type == arrow_fs.FileType.File)

    def put_tree(self, files: Mapping[str, Path | bytes]) -> str:
        """Stores files under relative names and returns the digest of the tree."""
        blobs = {
            _safe_name(name): self.put(source)
            if isinstance(source, bytes)
            else self.put_file(source)
            for name, source in files.items()
        }
        return self.put(orjson.dumps(blobs, option=orjson.OPT_SORT_KEYS))

    def tree(self, digest: str) -> dict[str, str]:
        """Blob digests by relative name."""
        listing: dict[str, str] = orjson.loads(self.get(digest))
        return listing

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
        for name, data in self.read_tree(digest).items():
            path = staging / _safe_name(name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        try:
            staging.rename(target)
        except OSError:
            if not target.is_dir():  # otherwise another process was quicker, with the same bytes
                raise
        return target

    def _publish(self, digest: str, chunks: Iterator[bytes]) -> None:
        if self.exists(digest):
            return
        path = self._path(digest)
        # A local write is renamed into place; object stores show a file only when it is complete.
        written_to = f"{path}.{secrets.token_hex(4)}" if self._is_local else path
        try:
            if self._is_local:
                self._fs.create_dir(str(PurePosixPath(path).parent), recursive=True)
            with self._fs.open_output_stream(written_to) as stream:
                for chunk in chunks:
                    stream.write(chunk)
            if self._is_local:
                self._fs.move(written_to, path)
        except OSError as error:
            raise StorageError(f"{self.uri} refused blob {digest}: {error}") from error

    def _path(self, digest: str) -> str:
        return f"{self._root}/blobs/{digest[:2]}/{digest}"


def file_digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _chunks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            yield chunk


def _safe_name(name: str) -> str:
    path = PurePosixPath(name)
    if not path.parts or path.is_absolute() or ".." in path.parts:
        raise StorageError(f"'{name}' is no name inside a tree; use a relative path without '..'")
    return str(path)
