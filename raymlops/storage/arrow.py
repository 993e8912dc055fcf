"""The place of a URI for libraries that write there by Arrow, and show where they do."""

from __future__ import annotations

from typing import TYPE_CHECKING

from raymlops.storage.files import redacted

if TYPE_CHECKING:
    from pyarrow.fs import FileSystem


def arrow_place(uri: str) -> tuple[str, FileSystem | None]:
    """`uri` itself; of one that holds keys its path, and the file system that has them."""
    if redacted(uri) == uri:
        return uri, None
    from pyarrow import fs

    filesystem, path = fs.FileSystem.from_uri(uri)
    return path, filesystem
