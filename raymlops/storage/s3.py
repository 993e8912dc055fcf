"""Objects in a bucket of S3, or of a server that speaks its protocol, through pyarrow."""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import SplitResult, parse_qsl, unquote

from raymlops.errors import MissingFileError, StorageError, UnavailableError
from raymlops.storage.chunks import ranges_ahead

if TYPE_CHECKING:
    from pyarrow import fs

# Arrow queues parts without a limit while they are sent; it is made to wait for them this often.
_UNSENT_BYTES = 64 << 20
_LARGEST_COPY_BYTES = 5 << 30  # of S3, in one request
_OPTIONS = {"endpoint_override", "scheme", "region", "tls_ca_file_path"}

_PASSES = {
    "NETWORK_CONNECTION", "REQUEST_TIMEOUT", "INTERNAL_FAILURE", "SERVICE_UNAVAILABLE",
    "SLOW_DOWN", "THROTTLING",
}  # fmt: skip
_WRONG_KEYS = {
    "INVALID_ACCESS_KEY_ID", "SIGNATURE_DOES_NOT_MATCH", "INVALID_CLIENT_TOKEN_ID",
    "UNRECOGNIZED_CLIENT", "MISSING_AUTHENTICATION_TOKEN",
}  # fmt: skip
_MISSING = {"NO_SUCH_KEY", "RESOURCE_NOT_FOUND"}
_FULL = re.compile(r"HTTP status 507|quota|insufficient storage|no space|StorageFull", re.I)


@dataclass(frozen=True, kw_only=True)
class S3Address:
    """What an s3:// URI says; keys of None are looked up where AWS' own programs look."""

    bucket: str
    prefix: str
    access_key: str | None
    secret_key: str | None = field(repr=False)
    options: dict[str, str]

    @classmethod
    def parse(cls, uri: SplitResult) -> S3Address:
        """Takes apart s3://[KEY:SECRET@]BUCKET/PREFIX[?region=...&endpoint_override=...].

        Raises:
            ValueError: the URI names no bucket, or an option that there is not.
        """
        user, _, bucket = uri.netloc.rpartition("@")
        access_key, colon, secret_key = user.partition(":")
        options = dict(parse_qsl(uri.query, strict_parsing=bool(uri.query)))
        if not bucket:
            raise ValueError("it names no bucket; write s3://BUCKET/PREFIX")
        if bool(access_key) != bool(secret_key) or (colon and not access_key):
            raise ValueError("it holds half of a pair of keys; write s3://KEY:SECRET@BUCKET/PREFIX")
        if unknown := sorted(set(options) - _OPTIONS):
            raise ValueError(f"it has unknown options {unknown}; known are {sorted(_OPTIONS)}")
        return cls(
            bucket=bucket,
            prefix=unquote(uri.path).strip("/"),
            access_key=unquote(access_key) or None,
            secret_key=unquote(secret_key) or None,
            options=options,
        )

    @property
    def where(self) -> str:
        return f"bucket '{self.bucket}' at {self.options.get('endpoint_override', 'AWS')}"


class S3Bucket:
    """Objects below a prefix. A write is one request, or parts that become an object at its end."""

    def __init__(self, address: S3Address) -> None:
        self._address = address
        self._root = "/".join(filter(None, (address.bucket, address.prefix)))

    def size_bytes(self, name: str) -> int | None:
        with self._explained(name):
            info = self._fs.get_file_info(self._path(name))
            return info.size if info.is_file else None

    def read(self, name: str, start: int = 0) -> Iterator[bytes]:
        with self._explained(name), self._fs.open_input_file(self._path(name)) as file:
            tag = file.metadata()["ETag"]
            # Reading is in ranges, each its own request, while others may replace the object.
            yield from ranges_ahead(file.read_at, start=start, end=file.size())
            with self._fs.open_input_file(self._path(name)) as now:
                if now.metadata()["ETag"] != tag:
                    raise StorageError(
                        f"{self._path(name)} was replaced while it was read; read it again"
                    )

    def write(self, name: str, chunks: Iterable[bytes]) -> None:
        with self._explained(name):
            stream = self._fs.open_output_stream(self._path(name))
            try:
                unsent = 0
                for chunk in chunks:
                    stream.write(chunk)
                    unsent += len(chunk)
                    if unsent >= _UNSENT_BYTES:
                        stream.flush()
                        unsent = 0
            except BaseException:
                _abandon(stream)
                raise
            stream.close()

    def names(self, folder: str) -> Iterator[str]:
        from pyarrow import fs

        top = self._path(folder) if folder else self._root
        with self._explained(folder):
            everything = fs.FileSelector(top, recursive=True, allow_not_found=True)
            for info in self._fs.get_file_info(everything):
                if info.is_file:
                    yield info.path.removeprefix(f"{self._root}/")

    def copy(self, source: str, target: str) -> None:
        size_bytes = self.size_bytes(source)
        if size_bytes is not None and size_bytes > _LARGEST_COPY_BYTES:
            self.write(target, self.read(source))
            return
        with self._explained(source):
            self._fs.copy_file(self._path(source), self._path(target))

    def delete(self, name: str) -> None:
        with self._explained(name), contextlib.suppress(FileNotFoundError):
            self._fs.delete_file(self._path(name))

    @cached_property
    def _fs(self) -> fs.S3FileSystem:
        from pyarrow import fs

        address = self._address
        options: dict[str, Any] = dict(address.options)
        if "region" not in options and "endpoint_override" in options:
            options["region"] = "us-east-1"  # servers of other makers ignore it, but it is signed
        if not has_keys(address, os.environ, Path.home()) and "endpoint_override" in options:
            # Elsewhere the machine itself may have a role, which AWS' library asks for.
            raise StorageError(f"there are no credentials for {address.where}; {_KEYS_GO}")
        client = fs.S3FileSystem(
            access_key=address.access_key,
            secret_key=address.secret_key,
            connect_timeout=5,
            allow_delayed_open=True,
            **options,
        )
        with self._explained(""):
            self._require_bucket(client)
        return client

    def _require_bucket(self, client: fs.S3FileSystem) -> None:
        """Some servers make a bucket that is missing, under a name that was only misspelt."""
        try:
            info = client.get_file_info(self._address.bucket)
        except OSError as error:
            if "ACCESS_DENIED" in str(error) and has_keys(
                self._address, os.environ, Path.home()
            ):  # a user may be allowed to use a bucket and not to look at it
                return
            raise
        if info.type.name == "NotFound":
            raise StorageError(_no_bucket(self._address))

    @contextlib.contextmanager
    def _explained(self, name: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            keys = has_keys(self._address, os.environ, Path.home())
            raise explain(error, name, self._address, has_keys=keys) from error

    def _path(self, name: str) -> str:
        return f"{self._root}/{name}"


_KEYS_GO = (
    "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or write s3://KEY:SECRET@BUCKET/PREFIX"
    " with both percent-encoded"
)


def has_keys(address: S3Address, environ: os._Environ[str] | dict[str, str], home: Path) -> bool:
    """Whether the URI, the environment or AWS' own files hold credentials."""
    return (
        address.access_key is not None
        or any(name in environ for name in _KEY_VARIABLES)
        or (home / ".aws" / "credentials").is_file()
        or (home / ".aws" / "config").is_file()
    )


_KEY_VARIABLES = (
    "AWS_ACCESS_KEY_ID", "AWS_PROFILE", "AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE",
    "AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
)  # fmt: skip


def explain(error: OSError, name: str, address: S3Address, *, has_keys: bool) -> StorageError:
    """What Arrow's error means, and what to do about it."""
    text = str(error)
    found = re.search(r"AWS Error (\w+)(?: \(HTTP status (\d+)\))?", text)
    code, status = (found[1], int(found[2] or 0)) if found else ("", 0)
    if isinstance(error, FileNotFoundError) or code in _MISSING:
        return MissingFileError(f"there is no file '{name}' in {address.where}")
    if code == "NO_SUCH_BUCKET":
        return StorageError(_no_bucket(address))
    if _FULL.search(text):
        return StorageError(
            f"'{name}' cannot be written, {address.where} is full: {text}; free some space or"
            " raise the quota and call again"
        )
    if code in _PASSES or status >= 500 or status == 429:
        return UnavailableError(
            f"{address.where} does not answer, or fails: {text}; check that the server runs and"
            " has space left, and that endpoint_override and scheme are right"
        )
    if code == "ACCESS_DENIED" and not has_keys:
        return StorageError(f"there are no credentials for {address.where}: {text}; {_KEYS_GO}")
    if code in _WRONG_KEYS or code == "ACCESS_DENIED":
        return StorageError(
            f"{address.where} refuses the credentials, or they may not do this: {text}; check the"
            f" key '{address.access_key or 'of the environment'}', its secret and its policy"
        )
    return StorageError(f"'{name}' in {address.where} cannot be used: {text}")


def _no_bucket(address: S3Address) -> str:
    return f"there is no {address.where}; create it, or correct the name in the URI"


def _abandon(stream: object) -> None:
    """Keeps a stream from ever being closed.

    Arrow completes an upload, with the parts that were sent so far, when its stream is closed and
    also when it is collected; pyarrow cannot abort one. So it is never collected. That costs the
    memory of a part; the parts on the server go by the bucket's rule for incomplete uploads.
    """
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(stream))
