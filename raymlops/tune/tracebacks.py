"""The tracebacks of trials that failed: all that is kept of what Ray Tune writes."""

from __future__ import annotations

import fcntl
import logging
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from raymlops.errors import StorageError
from raymlops.storage import Files

ERROR_FILE = "error.txt"

_NEW = "raymlops-new-"
_HELD = "raymlops-tune-"
_KEPT = "raymlops-tracebacks-"

_logger = logging.getLogger(__name__)


@contextmanager
def keeping_tracebacks(files: Files, below: str) -> Iterator[Path]:
    """A folder of this machine, for Ray Tune to write to while the block runs.

    What it wrote is gone after that, but for the tracebacks, which are in `files` by then, as
    BELOW/TRIAL/error.txt. So a search needs no store while it runs. Where that takes none, being
    away, the folder stays, and is told. One whose search was killed goes as the next begins.
    """
    _remove_abandoned()
    with _held_folder() as folder:
        try:
            yield folder
        finally:
            _keep_tracebacks(folder, files, below)


@contextmanager
def _held_folder() -> Iterator[Path]:
    """A new folder that this process has locked, and with its end, whatever that is, no more."""
    new = Path(tempfile.mkdtemp(prefix=_NEW))
    with _opened(new) as descriptor:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield new.rename(new.with_name(new.name.replace(_NEW, _HELD)))


def _remove_abandoned() -> None:
    for folder in Path(tempfile.gettempdir()).glob(f"{_HELD}*"):
        with suppress(OSError), _opened(folder) as descriptor:  # another's, or in use
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _opened(folder: Path) -> Iterator[int]:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _keep_tracebacks(folder: Path, files: Files, below: str) -> None:
    try:
        for path in sorted(folder.rglob(ERROR_FILE)):
            files.upload(path, f"{below}/{path.parent.name}/{ERROR_FILE}")
    except StorageError as error:
        folder = folder.rename(folder.with_name(folder.name.replace(_HELD, _KEPT)))
        _logger.warning(
            "tracebacks of trials that failed stay in %s, since %s takes none: %s",
            folder,
            files,
            error,
        )
    else:
        shutil.rmtree(folder, ignore_errors=True)  # empty of what anybody reads again
