"""Semantic versions of models, ordered as numbers."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

Bump = Literal["major", "minor", "patch"]
BumpFrom = Callable[[str], Bump]
"""What a version's number moves by, told from the signature of the one before it."""

_PATTERN = re.compile(r"(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)")


@dataclass(frozen=True, order=True)
class Version:
    """MAJOR.MINOR.PATCH: signature broken, signature extended, retrained."""

    major: int
    minor: int
    patch: int

    @classmethod
    def parse(cls, text: str) -> Version:
        """Raises ValueError when `text` is not MAJOR.MINOR.PATCH."""
        match = _PATTERN.fullmatch(text)
        if match is None:
            raise ValueError(f"version '{text}' is not MAJOR.MINOR.PATCH, e.g. 1.0.0")
        return cls(*map(int, match.groups()))

    def bump(self, part: Bump) -> Version:
        match part:
            case "major":
                return Version(self.major + 1, 0, 0)
            case "minor":
                return Version(self.major, self.minor + 1, 0)
            case "patch":
                return Version(self.major, self.minor, self.patch + 1)

    def __str__(self) -> str:
        return f"{self.major}.{self.minor}.{self.patch}"


FIRST = Version(1, 0, 0)
