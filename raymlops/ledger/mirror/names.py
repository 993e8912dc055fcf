"""How the ledger's words read in MLflow: names it accepts, texts of the length it keeps.

What has to change is changed visibly: a name that MLflow refuses gets a digest at its end, a text
that is too long says how long it was.
"""

from __future__ import annotations

import hashlib
import json
import posixpath
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from raymlops.ledger.records import RunStatus
from raymlops.ledger.version import Version

MAX_PARAM = 6000
MAX_TAG = 8000
MAX_DATASET_DIGEST = 36
_MAX_NAME = 250

STATUSES: Mapping[RunStatus, str] = {
    "running": "RUNNING",
    "finished": "FINISHED",
    "failed": "FAILED",
    "interrupted": "KILLED",
    "lost": "KILLED",
}
"""MLflow's status by ours."""

_REFUSED_IN_NAMES = re.compile(r"[^\w.\- :/]")
_REFUSED_IN_MODELS = re.compile(r"[:/]")
_REFUSED_IN_ALIASES = re.compile(r"[^\w\-]")
_RESERVED_ALIAS = re.compile(r"latest|v\d+", re.IGNORECASE)


def safe_name(name: str) -> str:
    """`name` of a metric, parameter or tag, if MLflow takes it, else one that it takes."""
    refused = (
        _REFUSED_IN_NAMES.search(name) is not None
        or len(name) > _MAX_NAME
        or posixpath.normpath(name) != name  # MLflow may keep it as a file
        or name.startswith((".", "/"))
    )
    if not refused:
        return name
    readable = _REFUSED_IN_NAMES.sub("_", name).replace("/", "_").lstrip(".")
    return _with_digest(readable, name)


def safe_model(model: str) -> str:
    """`model` as the name of a registered model."""
    readable = _REFUSED_IN_MODELS.sub("_", model)
    return model if readable == model else _with_digest(readable, model)


def safe_alias(alias: str) -> str:
    """`alias`, unless MLflow reserves it: "latest" and "v1" would be "alias-latest", "alias-v1"."""
    readable = _REFUSED_IN_ALIASES.sub("-", alias)
    return f"alias-{readable}" if _RESERVED_ALIAS.fullmatch(readable) else readable


def version_alias(version: Version) -> str:
    """The alias under which MLflow, which numbers versions 1, 2, ..., finds `version`: 1-0-0."""
    return f"{version.major}-{version.minor}-{version.patch}"


def value_text(value: Any) -> str:
    """A parameter's value: a text as it is, everything else as JSON."""
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True)


def shortened(text: str, limit: int) -> str:
    """`text`, or its beginning with how long it was and its SHA-256, `limit` characters in all."""
    if len(text) <= limit:
        return text
    note = f"... [{len(text)} characters, sha256 {_digest(text)}]"
    return text[: limit - len(note)] + note


def milliseconds(time: datetime) -> int:
    """Since 1970, rounded down: MLflow keeps no microseconds."""
    seconds = int(time.astimezone(UTC).replace(microsecond=0).timestamp())
    return seconds * 1000 + time.microsecond // 1000


def _with_digest(readable: str, name: str) -> str:
    digest = _digest(name)[:8]
    return f"{readable[: _MAX_NAME - len(digest) - 1]}-{digest}"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
