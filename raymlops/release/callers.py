"""Whether those who ask one version may be answered by another, and both be judged alike."""

from __future__ import annotations

from raymlops.ledger import Ledger, ModelVersion
from raymlops.models import Signature


def refused_callers(ledger: Ledger, champion: ModelVersion, challenger: ModelVersion) -> str | None:
    """Why the challenger would refuse some of the champion's callers, or their labels fit one of
    both alone; None where neither is so.

    Nobody else notices: who is refused gets no label, and to guards it is the caller's fault. And
    a label that says 0 or 1 is none of an answer that tells several classes apart.
    """
    old, new = (
        Signature.from_json(ledger.text(version.signature_digest))
        for version in (champion, challenger)
    )
    promote = f"`raymlops promote {challenger.model}@{challenger.version}`"
    if (labels := _labels_of(new)) != (former := _labels_of(old)):
        return (
            f"labels of {challenger} are {labels}, those of {champion} {former}: none fits the "
            f"answers of both, so nobody can hold one against the other. To move all at once: "
            f"{promote}"
        )
    if new.takes_all_of(old):
        return None
    return (
        f"{challenger} refuses requests that {champion} takes, as their signatures differ "
        "(`raymlops models inspect`): of those that ask now, its share would be refused. Have them "
        f"ask as it wants, and move all at once: {promote}"
    )


def _labels_of(signature: Signature) -> str:
    """What comes true of its answers."""
    if signature.classes:
        are_names = isinstance(signature.classes[0], str)
        return "names of classes" if are_names else "numbers of classes"
    if signature.is_ranking:
        return "how relevant rows were"
    return "numbers" if signature.is_regression else "0 and 1"
