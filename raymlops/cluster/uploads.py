"""The copies of folders that Ray makes on its nodes, for jobs to run in."""

from __future__ import annotations

from pathlib import Path

_COPIES = ("runtime_resources", "working_dir_files")


def in_upload(path: Path) -> bool:
    """Whether `path` lies in such a copy, which Ray deletes once no job needs it."""
    return _COPIES in zip(path.parts, path.parts[1:], strict=False)
