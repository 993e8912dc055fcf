"""The audit chain: each decision's digest covers its content and the digest of the one before.

    decision 1 ──digest──▶ decision 2 ──digest──▶ decision 3 ...

A row that is changed, removed or slipped in breaks the chain at that place. Cutting off the newest
rows cannot be seen from the chain alone: keep a copy of the last digest elsewhere to see that too.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from raymlops.errors import StorageError
from raymlops.ledger.records import Decision
from raymlops.storage import Store

BEGINNING = ""
"""What the first decision has instead of a digest before it."""


@dataclass(frozen=True, kw_only=True)
class Audit:
    """What was verified, and everything that was found wrong, in words."""

    num_decisions: int
    num_artifacts: int
    last_digest: str
    problems: tuple[str, ...]


def digest(previous: str, content: Mapping[str, Any]) -> str:
    """SHA-256 over the digest before and a decision's content, in one canonical spelling."""
    text = json.dumps(plain(content), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(f"{previous}\n{text}".encode()).hexdigest()


def plain(value: Any) -> Any:
    """`value` as every database's JSON keeps it: times in UTC, no NaN or infinity, no tuples."""
    match value:
        case Mapping():
            return {str(key): plain(each) for key, each in value.items()}
        case list() | tuple():
            return [plain(each) for each in value]
        case datetime():
            return value.astimezone(UTC).isoformat()
        case float() if not math.isfinite(value):
            return None
        case _:
            return value


def verify(
    decisions: Iterable[Decision],
    *,
    trees: Sequence[tuple[str, str]],
    blobs: Sequence[tuple[str, str]],
    store: Store,
) -> Audit:
    """Checks the whole chain, and every byte of every artifact.

    Args:
        decisions: all of the ledger's, in the order they were taken.
        trees: (name, digest) of artifacts that are trees, e.g. ("flights 1.0.0", "9e8b...").
        blobs: the same of those that are one blob.
    """
    problems: list[str] = []
    previous, num_decisions = BEGINNING, 0
    for decision in decisions:
        problems += _check_link(previous, decision)
        previous, num_decisions = decision.digest, num_decisions + 1
    for name, tree in trees:
        problems += _check(name, tree, store.verify_tree)
    for name, blob in blobs:
        problems += _check(name, blob, store.verify)
    return Audit(
        num_decisions=num_decisions,
        num_artifacts=len(trees) + len(blobs),
        last_digest=previous,
        problems=tuple(problems),
    )


def _check_link(previous: str, decision: Decision) -> Iterator[str]:
    about = f"{decision.model}: " if decision.model else ""
    where = f"decision {decision.id} ({about}{decision.outcome})"
    if decision.previous != previous:
        yield f"{where} does not follow the one before it: a decision was removed or slipped in"
    if decision.digest != digest(decision.previous, decision.content):
        yield f"{where} is not what was written: it was changed"


def _check(name: str, digest: str, verify: Callable[[str], None]) -> Iterator[str]:
    try:
        verify(digest)
    except StorageError as error:  # missing, or IntegrityError: changed
        yield f"{name}: {error}"
