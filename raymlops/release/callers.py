"""Whether those who ask one version may be answered by another."""

from __future__ import annotations

from raymlops.ledger import Ledger, ModelVersion
from raymlops.models import Signature


def refused_callers(ledger: Ledger, champion: ModelVersion, challenger: ModelVersion) -> str | None:
    """Why the challenger would refuse some of the champion's callers; None where it would not.

    Nobody else notices: who is refused gets no label, and to guards it is the caller's fault.
    """
    old, new = (
        Signature.from_json(ledger.text(version.signature_digest))
        for version in (champion, challenger)
    )
    if new.takes_all_of(old):
        return None
    return (
        f"{challenger} refuses requests that {champion} takes, as their signatures differ "
        "(`raymlops models inspect`): of those that ask now, its share would be refused. Have them "
        f"ask as it wants, and move all at once: `raymlops promote {challenger.model}@"
        f"{challenger.version}`"
    )
