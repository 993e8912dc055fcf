"""Many ids in few statements, each of which binds no more than any database takes."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

_IDS_A_QUERY = 5_000
"""Fewer than any database binds in one statement."""


def groups(ids: Collection[str]) -> Iterator[Sequence[str]]:
    """The ids in as many groups as queries are needed for them."""
    listed = list(ids)
    return (listed[first : first + _IDS_A_QUERY] for first in range(0, len(listed), _IDS_A_QUERY))
