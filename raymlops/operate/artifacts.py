"""What a person does with models as files: inspect, convert, verify, trust."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from raymlops.errors import ModelError
from raymlops.ledger import Decision
from raymlops.models import (
    Artifact,
    Bundle,
    Inspection,
    Recorded,
    Verification,
    convert,
    format_named,
    format_of,
    inspect_model,
    read_model,
    read_sample,
    verify_bundle,
    verify_model,
    write_model,
)
from raymlops.models.predictors import Matrix
from raymlops.operate.workspace import Workspace

_NUM_SAMPLE_ROWS = 256


def inspect(source: str, workspace: Workspace, *, format: str | None = None) -> Inspection:
    """What a file, or the model of MODEL@VERSION, is; nothing that could run code is loaded."""
    return inspect_model(_artifact(source, workspace, format))


def convert_model(
    workspace: Workspace,
    source: str,
    target: Path,
    *,
    who: str,
    sample: Path | None = None,
    source_format: str | None = None,
    target_format: str | None = None,
) -> Inspection:
    """Writes a file, or the model of MODEL@VERSION, in another format, and tells what it wrote.

    A result that could run code when loaded is recorded as trusted, because raymlops wrote it
    out of what was trusted; the decision names both digests.

    Args:
        sample: a Parquet or CSV file of real rows; may be left out for MODEL@VERSION, whose
            profile gives rows.

    Raises:
        ParityError: a row is predicted differently; names it and both values. Nothing is written.
        ModelError: there is no way from one format to the other, or `target` exists.
    """
    to = format_of(target) if target_format is None else format_named(target_format)
    if target.exists():
        raise ModelError(f"{target} exists; models are never overwritten, choose another name")
    artifact = _artifact(source, workspace, source_format)
    rows = _rows(source, workspace, sample)
    vouched = _vouched(source, workspace, artifact)
    converted = convert(artifact, to, rows, recorded=vouched)
    write_model(converted, target)
    inspected = inspect_model(converted)
    if inspected.doubt is not None:
        why = f"converted from {artifact.format} {artifact.digest}"
        workspace.ledger.trust(converted.digest, who=who, why=why)
    return inspected


def verify(
    workspace: Workspace,
    source: str,
    *,
    sample: Path | None = None,
    digest: str | None = None,
    format: str | None = None,
) -> Verification:
    """Loads and asks a file, or MODEL@VERSION with its recorded answers.

    Raises:
        IntegrityError: bytes differ from what was recorded, or from `digest`.
        UntrustedError: loading could run code and the ledger did not record the digest.
        ParityError: MODEL@VERSION answers otherwise than when it was made.
        ModelError: it cannot be loaded or asked.
    """
    if _is_reference(source):
        version = workspace.ledger.registry.resolve(source)
        return verify_bundle(Bundle.of_version(workspace.store, version), version.bundle)
    artifact = read_model(Path(source), format=format, digest=digest)
    rows = None if sample is None else read_sample(sample)
    return verify_model(artifact, rows, recorded=workspace.ledger.is_recorded)


def example_record(workspace: Workspace, reference: str) -> dict[str, Any]:
    """A row like those that MODEL@ALIAS or MODEL@1.2.3 was trained on, to ask it with.

    Raises:
        NotFoundError: there is no such version.
    """
    (record,) = _bundle(reference, workspace).sample_records(1)
    return record


def trust_file(
    workspace: Workspace, path: Path, *, who: str, why: str, format: str | None = None
) -> Decision:
    """Vouches for the bytes of a file as they are now; others under its name are not meant.

    Raises:
        ModelError: the bytes are not of the format they are said to be.
    """
    inspected = inspect_model(read_model(path, format=format))
    return workspace.ledger.trust(inspected.digest, who=who, why=why)


def _is_reference(source: str) -> bool:
    return "@" in source and not Path(source).exists()


def _artifact(source: str, workspace: Workspace, format: str | None) -> Artifact:
    if _is_reference(source):
        return _bundle(source, workspace).artifact
    return read_model(Path(source), format=format)


def _bundle(reference: str, workspace: Workspace) -> Bundle:
    return Bundle.of_version(workspace.store, workspace.ledger.registry.resolve(reference))


def _rows(source: str, workspace: Workspace, sample: Path | None) -> Matrix:
    if sample is not None:
        return read_sample(sample)
    if not _is_reference(source):
        raise ModelError("give real rows to compare on: --sample rows.parquet, or .csv")
    bundle = _bundle(source, workspace)
    return bundle.preprocessing.transform(bundle.sample(_NUM_SAMPLE_ROWS))


def _vouched(source: str, workspace: Workspace, artifact: Artifact) -> Recorded:
    """A registered version is vouched for; a file only by its digest."""
    return artifact.digest.__eq__ if _is_reference(source) else workspace.ledger.is_recorded
