"""Zip archives that models come in: opened only when nothing in them can hurt."""

from __future__ import annotations

import io
import zipfile
from pathlib import PurePosixPath

from raymlops.errors import ModelError

# Weights barely shrink; what grows a hundredfold is text of no use, or a bomb.
_MAX_EXPANSION = 100
_ALWAYS_ALLOWED_BYTES = 64 * 1024 * 1024


def open_archive(data: bytes, name: str) -> zipfile.ZipFile:
    """The archive, after its list of members was checked.

    Raises:
        ModelError: it is no zip archive, a member would be written outside the folder it is
            unpacked in, is listed twice, or would expand beyond reason.
    """
    try:
        archive = zipfile.ZipFile(io.BytesIO(data))
    except zipfile.BadZipFile as error:
        raise ModelError(f"not a {name} model that can be loaded: {error}") from error
    members = archive.infolist()
    names = [member.filename for member in members]
    for member in names:
        path = PurePosixPath(member)
        if path.is_absolute() or ".." in path.parts or "\\" in member or ":" in member:
            raise ModelError(f"{name}: member '{member}' leads out of the archive; refused")
    if len(set(names)) != len(names):
        raise ModelError(f"{name}: a member is listed twice, so readers may see different bytes")
    refuse_bomb(name, len(data), sum(member.file_size for member in members))
    return archive


def refuse_bomb(name: str, num_bytes: int, expanded: int) -> None:
    """Raises ModelError when so many bytes would become unreasonably many."""
    allowed = max(_ALWAYS_ALLOWED_BYTES, _MAX_EXPANSION * num_bytes)
    if expanded > allowed:
        raise ModelError(
            f"{name}: {num_bytes:,} bytes would expand to {expanded:,}, more than {allowed:,}; "
            "refused as a decompression bomb"
        )


def require_members(archive: zipfile.ZipFile, name: str, *endings: str) -> None:
    """Raises ModelError when no member ends in one of `endings`: the archive is another format."""
    for ending in endings:
        if not any(member.endswith(ending) for member in archive.namelist()):
            raise ModelError(f"not a {name} model that can be loaded: it has no {ending}")
