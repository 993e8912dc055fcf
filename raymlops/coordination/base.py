"""What every coordination backend offers: a lock whose holders carry rising numbers."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, kw_only=True)
class Lease:
    """The right to act under `name`; `token` is larger than that of every earlier holder, so a
    write that carries it can be refused once a newer holder has written."""

    name: str
    token: int


class Coordinator(Protocol):
    def hold(self, name: str, *, timeout_s: float) -> AbstractContextManager[Lease]:
        """Holds the lock `name` for the length of the block.

        It is given up when the block ends or the holder's process dies.

        Raises:
            CoordinationError: somebody else held it for all of `timeout_s`; says who.
        """
        ...
