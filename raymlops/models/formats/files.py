"""Models as files: read once, written whole."""

from __future__ import annotations

from pathlib import Path

from raymlops.errors import IntegrityError, ModelError
from raymlops.models.artifact import Artifact
from raymlops.models.formats.base import Format, Recorded, nothing_recorded
from raymlops.models.formats.registry import format_named, format_of
from raymlops.models.predictors import Predictor
from raymlops.storage.files import save


def read_model(path: Path, *, format: str | None = None, digest: str | None = None) -> Artifact:
    """The bytes of a model's file; nothing of it is loaded.

    Args:
        format: its name, where the suffix does not tell.
        digest: what the bytes must have.

    Raises:
        ModelError: there is no such file or format, or the architecture beside it is missing.
        IntegrityError: the bytes have another digest.
    """
    kind = format_of(path) if format is None else format_named(format)
    try:
        data = path.read_bytes()
        beside = _beside(path, kind).read_bytes() if kind.architecture_apart else None
    except OSError as error:
        raise ModelError(f"{kind.name} model {path} cannot be read: {error}") from error
    artifact = Artifact(format=kind.name, data=data, architecture=beside)
    if digest is not None and artifact.digest != digest:
        raise IntegrityError(f"{path} has digest {artifact.digest}, not {digest}; refused")
    return artifact


def load_model(
    path: Path,
    *,
    recorded: Recorded = nothing_recorded,
    format: str | None = None,
    digest: str | None = None,
) -> Predictor:
    """The model in a file, ready to predict.

    The file is read once: the bytes whose digest is checked are those that are loaded.

    Args:
        recorded: whether the ledger vouches for a digest; asked for formats that can run code.

    Raises:
        UntrustedError: loading could run code and the digest is not recorded.
        IntegrityError: the bytes have another digest than `digest`.
        ModelError: the file is missing, cut short, of another format or holds what is refused.
    """
    artifact = read_model(path, format=format, digest=digest)
    return format_named(artifact.format).load(artifact, recorded=recorded)


def write_model(artifact: Artifact, path: Path) -> None:
    """Writes the file, renamed into place, and the architecture beside it first.

    Raises:
        StorageError: it cannot be written; nothing half-written stays.
    """
    if artifact.architecture is not None:
        beside = _beside(path, format_named(artifact.format))
        save(beside, [artifact.architecture], durable=True)
    save(path, [artifact.data], durable=True)


def _beside(path: Path, kind: Format) -> Path:
    """Where the architecture lies: churn.safetensors has churn.architecture.json beside it."""
    suffix = next((s for s in kind.suffixes if path.name.endswith(s)), path.suffix)
    return path.with_name(f"{path.name.removesuffix(suffix)}.architecture.json")
