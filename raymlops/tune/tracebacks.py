"""The tracebacks of trials that failed: all that is kept of what Ray Tune writes."""

from __future__ import annotations

import logging
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from raymlops.errors import StorageError
from raymlops.storage import Files

ERROR_FILE = "error.txt"

_logger = logging.getLogger(__name__)


@contextmanager
def keeping_tracebacks(files: Files, below: str) -> Iterator[Path]:
    """A folder of this machine, for Ray Tune to write to while the block runs.

    What it wrote is gone after that, but for the tracebacks, which are in `files` by then, as
    BELOW/TRIAL/error.txt. So a search needs no store while it runs. Where that takes none, being
    away, the folder stays, and is told.
    """
    folder = Path(tempfile.mkdtemp(prefix="raymlops-tune-"))
    try:
        yield folder
    finally:
        try:
            for path in sorted(folder.rglob(ERROR_FILE)):
                files.upload(path, f"{below}/{path.parent.name}/{ERROR_FILE}")
        except StorageError as error:
            _logger.warning(
                "tracebacks of trials that failed stay in %s, since %s takes none: %s",
                folder,
                files,
                error,
            )
        else:
            shutil.rmtree(folder, ignore_errors=True)  # empty of what anybody reads again
