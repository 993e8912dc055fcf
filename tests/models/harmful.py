"""What tests of files made to harm share."""

from __future__ import annotations

import io
import zipfile


def nothing(_digest: str) -> bool:
    """The ledger recorded no file."""
    return False


def zipped(**members: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return buffer.getvalue()
