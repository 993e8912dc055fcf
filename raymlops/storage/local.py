"""Files in a folder of this machine, or of a file system mounted on it."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path

from raymlops.errors import NO_ROOM, MissingFileError, StorageError, UnavailableError
from raymlops.storage.chunks import file_chunks
from raymlops.storage.names import STAGING

# What file systems without hard links say: some that are mounted from elsewhere.
_NO_LINKS = {errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS}
_PASSES = {errno.ETIMEDOUT, errno.ESTALE, errno.EAGAIN, errno.EHOSTDOWN, errno.ENETUNREACH}

# Nobody writes so slowly, and clocks of machines that share a disk do not differ so much.
_LEFT_BEHIND_S = 7 * 24 * 3600.0


class LocalDisk:
    """A write is on the disk, not only in memory, when it returns.

    Names are judged by where they lead once links are followed, so a link cannot lead out.
    """

    def __init__(self, root: Path) -> None:
        self._root = Path(os.path.realpath(root))

    def size_bytes(self, name: str) -> int | None:
        path = self._resolved(name)
        with _explained(path):
            return path.stat().st_size if path.is_file() else None

    def read(self, name: str, start: int = 0) -> Iterator[bytes]:
        path = self._resolved(name)
        with _explained(path):
            yield from file_chunks(path, start)

    def write(self, name: str, chunks: Iterable[bytes], *, private: bool = False) -> None:
        path = self._resolved(name)
        with _explained(path):
            _make_folder(path.parent, private=private)
            replace(path, chunks, staging=self._staging(), durable=True, private=private)

    def create(self, name: str, data: bytes, *, private: bool = False) -> bool:
        """Writes the file unless there is one; of all who do so at once, one is told True."""
        path = self._resolved(name)
        with _explained(path):
            _make_folder(path.parent, private=private)
            try:
                _appear(
                    path,
                    lambda staged: _write_new(staged, (data,), private=private),
                    put=_put_new,
                    staging=self._staging(),
                    durable=True,
                )
            except FileExistsError:
                return False
            return True

    def names(self, folder: str) -> Iterator[str]:
        self._resolved(folder)
        yield from self._names(self._root / folder)

    def _names(self, folder: Path) -> Iterator[str]:
        # A folder is read in one go and its files are not looked at again: one that is replaced
        # meanwhile, as a pointer is, must be found under its old name or its new one.
        try:
            with os.scandir(folder) as entries:
                found = list(entries)
        except (FileNotFoundError, NotADirectoryError):
            return
        for entry in found:
            path = Path(entry.path)
            if entry.is_dir(follow_symlinks=False):
                if path != self._root / STAGING:
                    yield from self._names(path)
            elif entry.is_file(follow_symlinks=False) or self._leads_to_a_file(path):
                yield path.relative_to(self._root).as_posix()

    def _leads_to_a_file(self, link: Path) -> bool:
        return link.is_file() and self._is_inside(link)

    def copy(self, source: str, target: str) -> None:
        path = self._resolved(target)
        with _explained(path):
            _make_folder(path.parent)
            self._copy(source, path, staging=self._staging(), durable=True)

    def copy_out(self, name: str, path: Path) -> None:
        """Copies the file to `path`, outside, by the kernel; it appears when it is complete.

        Raises:
            OSError: `path` cannot be written.
        """
        self._copy(name, path, staging=path.parent, durable=False)

    def _copy(self, name: str, path: Path, *, staging: Path, durable: bool) -> None:
        source = self._resolved(name)
        with _explained(source):
            source.open("rb").close()  # what is wrong with the source is not the target's fault
        _appear(
            path,
            lambda staged: shutil.copyfile(source, staged),
            staging=staging,
            durable=durable,
        )

    def delete(self, name: str) -> None:
        self._resolved(name)
        path = self._root / name  # a link goes, not the file that it leads to
        with _explained(path), contextlib.suppress(FileNotFoundError):
            path.unlink()
            _sync(path.parent)

    def _staging(self) -> Path:
        """Where half-written files wait; those of writers that were killed go by and by."""
        folder = self._root / STAGING
        _make_folder(folder)
        left_behind = time.time() - _LEFT_BEHIND_S
        with os.scandir(folder) as entries:
            for entry in entries:
                with contextlib.suppress(FileNotFoundError):  # it is just put into place
                    if entry.stat(follow_symlinks=False).st_mtime < left_behind:
                        os.unlink(entry.path)
        return folder

    def _resolved(self, name: str) -> Path:
        path = Path(os.path.realpath(self._root / name))
        if not self._is_inside(path):
            raise StorageError(
                f"'{name}' leads to {path}, out of {self._root}; remove the link, or use the store"
                " that it leads to"
            )
        return path

    def _is_inside(self, path: Path) -> bool:
        return Path(os.path.realpath(path)).is_relative_to(self._root)


def replace(
    path: Path,
    chunks: Iterable[bytes],
    *,
    staging: Path,
    durable: bool,
    private: bool = False,
) -> None:
    """Makes `chunks` the content of `path` at once; `staging` is on the same file system.

    A durable one survives a power cut from then on; a private one nobody else can read.
    """

    def write(staged: Path) -> None:
        _write_new(staged, chunks, private=private)

    _appear(path, write, staging=staging, durable=durable)


def _write_new(path: Path, chunks: Iterable[bytes], *, private: bool) -> None:
    mode = 0o600 if private else 0o666
    with open(path, "xb", buffering=0, opener=partial(os.open, mode=mode)) as file:
        for chunk in chunks:
            _write_all(file.fileno(), chunk)


def _appear(
    path: Path,
    make: Callable[[Path], object],
    *,
    put: Callable[[Path, Path], object] = os.replace,
    staging: Path,
    durable: bool,
) -> None:
    staged = staging / f".{secrets.token_hex(8)}.part"
    try:
        make(staged)
        if durable:
            _sync(staged)
        put(staged, path)
    except BaseException:
        staged.unlink(missing_ok=True)
        raise
    if durable:
        _sync(path.parent)


def _put_new(staged: Path, path: Path) -> None:
    """Raises FileExistsError, which a rename never does."""
    try:
        os.link(staged, path)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        if path.exists():
            raise FileExistsError(path) from None
        staged.replace(path)
    else:
        staged.unlink()


@contextlib.contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except (FileNotFoundError, IsADirectoryError) as error:
        raise MissingFileError(f"there is no file {path}") from error
    except OSError as error:
        if error.errno in (*NO_ROOM, errno.EFBIG):
            raise StorageError(
                f"{path} cannot be written, the disk is full or the quota used up: {error};"
                " free some space and call again, nothing half-written stays"
            ) from error
        kind = UnavailableError if error.errno in _PASSES else StorageError
        raise kind(f"{path} cannot be used: {error}") from error


def _write_all(file: int, chunk: bytes) -> None:
    rest = memoryview(chunk)
    while rest:
        rest = rest[os.write(file, rest) :]


def _make_folder(folder: Path, *, private: bool = False) -> None:
    """Makes a folder that is still there after a power cut; a private one is open to nobody else,
    nor are those above it that are made with it."""
    if folder.is_dir():
        return
    _make_folder(folder.parent, private=private)
    folder.mkdir(0o700 if private else 0o777, exist_ok=True)
    _sync(folder.parent)


def _sync(path: Path) -> None:
    """Has the file, or the folder's list of files, on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
