"""What the ledger vouches for: bundles that were registered, and digests somebody trusted."""

from __future__ import annotations

from raymlops.ledger import Decision
from raymlops.models import Recorded
from raymlops.operate.workspace import Workspace

_KIND = "trust"


def recorded(workspace: Workspace) -> Recorded:
    """Whether the workspace's ledger recorded a digest, asked anew each time."""
    ledger = workspace.ledger

    def is_recorded(digest: str) -> bool:
        if any(row.evidence.get("digest") == digest for row in ledger.decisions.list(kind=_KIND)):
            return True
        registry = ledger.registry
        return any(
            version.bundle == digest
            for name in registry.models()
            for version in registry.list(name)
        )

    return is_recorded


def trust(workspace: Workspace, digest: str, *, who: str, why: str) -> Decision:
    """Lets `digest` be loaded from now on; the decision is part of the audit chain."""
    return workspace.ledger.decisions.add(
        model="",
        kind=_KIND,
        outcome=f"{digest} is trusted",
        who=who,
        why=why,
        evidence={"digest": digest},
    )
