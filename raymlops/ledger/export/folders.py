"""Where an export writes."""

from __future__ import annotations

from pathlib import Path

from raymlops.errors import DataError


def make_folder(path: Path) -> None:
    """Returns when there is a folder at `path`.

    Raises:
        DataError: a file is there, or where a folder above it would be.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise DataError(f"{path} cannot be a folder: {error.strerror}; name another") from error
