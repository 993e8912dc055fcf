"""What a model's file is, told without loading what could run code."""

from __future__ import annotations

from dataclasses import dataclass

from raymlops.models.artifact import Artifact
from raymlops.models.formats import Facts, format_named


@dataclass(frozen=True, kw_only=True)
class Inspection:
    """`doubt` says why loading needs a recorded digest; None when the file cannot harm."""

    format: str
    digest: str
    size_bytes: int
    doubt: str | None
    facts: Facts


def inspect_model(artifact: Artifact) -> Inspection:
    """Raises ModelError when the bytes are not of the format they are said to be."""
    kind = format_named(artifact.format)
    facts = kind.describe(artifact)
    return Inspection(
        format=artifact.format,
        digest=artifact.digest,
        size_bytes=artifact.size_bytes,
        doubt=kind.doubt(artifact),
        facts=facts,
    )
