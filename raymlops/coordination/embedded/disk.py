"""Folders whose entries survive a crash of the machine."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from raymlops.errors import CoordinationError


def make_folder(folder: Path) -> None:
    """Creates `folder` and those above it where they are missing."""
    if not folder.is_dir():
        make_folder(folder.parent)
        folder.mkdir(exist_ok=True)
        sync_folder(folder.parent)


def sync_folder(folder: Path) -> None:
    """Writes to the disk what was created, renamed or removed in `folder`."""
    file = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(file)
    finally:
        os.close(file)


@contextlib.contextmanager
def explained(folder: Path) -> Iterator[None]:
    """Tells what the disk refuses as an error of ours."""
    try:
        yield
    except OSError as error:
        raise CoordinationError(
            f"locks and keys are kept in {folder}, which cannot be written: {error}; see that its "
            "disk is not full and may be written, or give another home"
        ) from error
