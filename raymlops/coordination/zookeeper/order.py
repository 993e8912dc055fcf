"""Who is before whom in a queue of sequential nodes."""

from __future__ import annotations

from collections.abc import Iterable

_HALF = 1 << 31


def before(mine: str, nodes: Iterable[str]) -> list[str]:
    """Those of `nodes` created before `mine`, oldest first.

    ZooKeeper numbers nodes with 32 bits, which run over into the negative after 2,147,483,647
    (24 days of a lock that changes hands a thousand times a second), so they are compared as
    serial numbers (RFC 1982): right as long as the queue is shorter than 2^31.
    """
    own = _number(mine)
    ages = {node: (own - _number(node)) % (2 * _HALF) for node in nodes}
    older = [node for node, age in ages.items() if 0 < age < _HALF]
    return sorted(older, key=lambda node: -ages[node])


def oldest(nodes: Iterable[str]) -> str | None:
    """The head of the queue; None when it is empty."""
    head: str | None = None
    for node in nodes:
        if head is None or before(head, [node]):
            head = node
    return head


def _number(node: str) -> int:
    return int(node.rpartition("~")[2])
