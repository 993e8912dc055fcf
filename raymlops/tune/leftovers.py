"""What Ray Tune leaves of a search: nothing that anyone reads again, but the tracebacks."""

from __future__ import annotations

import logging
import os
from pathlib import PurePosixPath

from raymlops.storage import arrow_place
from raymlops.storage.files import redacted

ERROR_FILE = "error.txt"

_logger = logging.getLogger(__name__)


def give_back(folder: str) -> None:
    """Removes what lies in the `folder` of a search that has ended, but the tracebacks of trials
    that failed: a search goes on from the ledger. What cannot be removed stays, and is told."""
    from pyarrow import fs

    path, filesystem = arrow_place(folder)
    if filesystem is None and "://" in path:
        filesystem, path = fs.FileSystem.from_uri(path)
    elif filesystem is None:
        filesystem, path = fs.LocalFileSystem(), os.path.abspath(path)
    try:
        found = filesystem.get_file_info(
            fs.FileSelector(path, recursive=True, allow_not_found=True)
        )
        errors = [each.path for each in found if each.base_name == ERROR_FILE]
        kept = {str(above) for error in errors for above in PurePosixPath(error).parents}
        for each in found:
            if each.type == fs.FileType.File and each.path not in errors:
                filesystem.delete_file(each.path)
        for each in sorted(found, key=lambda each: len(each.path), reverse=True):
            if each.type == fs.FileType.Directory and each.path not in kept:
                filesystem.delete_dir(each.path)
        if found and not errors:
            filesystem.delete_dir(path)
    except OSError as error:
        _logger.warning("what Ray Tune left in %s was not removed: %s", redacted(folder), error)
