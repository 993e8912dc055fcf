"""A saved model as bytes: read once, so that what is checked is what is loaded."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property

import orjson


@dataclass(frozen=True, kw_only=True)
class Artifact:
    """The bytes of a model's file, and of the architecture where the format keeps it apart."""

    format: str
    data: bytes
    architecture: bytes | None = None

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the file; with an architecture apart, of the list of both digests."""
        own = hashlib.sha256(self.data).hexdigest()
        if self.architecture is None:
            return own
        parts = {"architecture": hashlib.sha256(self.architecture).hexdigest(), "data": own}
        return hashlib.sha256(orjson.dumps(parts, option=orjson.OPT_SORT_KEYS)).hexdigest()

    @property
    def size_bytes(self) -> int:
        return len(self.data) + len(self.architecture or b"")
