"""skops: scikit-learn models as JSON and arrays, built from known types.

skops knows which types of scikit-learn, numpy and scipy cannot harm. Some of scikit-learn's own
are not among them, e.g. trees, whose state could point outside of their memory: a file that holds
those is loaded only when it is recorded, like a pickle.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from raymlops.models.artifact import Artifact
from raymlops.models.formats.archive import open_archive, require_members
from raymlops.models.formats.base import Facts, Format
from raymlops.models.predictors import Matrix


class Skops(Format):
    """Needs a recorded digest for the types skops does not vouch for; the error names them."""

    name = "skops"
    suffixes = (".skops",)
    kinds = frozenset({"sklearn"})
    runs_code = False
    tolerance = 0.0
    packages = ("scikit-learn", "skops")
    extra = "formats"

    def facts(self, artifact: Artifact) -> Facts:
        schema = _schema(artifact)
        return Facts(
            producer=f"skops {schema.get('_skops_version')}",
            imports=tuple(sorted(set(_types(schema)))),
        )

    def _save(self, model: Any, sample: Matrix) -> Artifact:
        from skops.io import dumps

        return Artifact(format=self.name, data=dumps(model))

    def doubt(self, artifact: Artifact) -> str | None:
        unknown = _untrusted(artifact)
        return (
            f"it holds types that skops does not know to be safe, {', '.join(unknown)}"
            if unknown
            else None
        )

    def _restore(self, artifact: Artifact) -> Any:
        from skops.io import loads

        return loads(artifact.data, trusted=_untrusted(artifact))


def _untrusted(artifact: Artifact) -> list[str]:
    from skops.io import get_untrusted_types

    _schema(artifact)
    return list(get_untrusted_types(data=artifact.data))


def _schema(artifact: Artifact) -> dict[str, Any]:
    archive = open_archive(artifact.data, Skops.name)
    require_members(archive, Skops.name, "schema.json")
    schema: dict[str, Any] = json.loads(archive.read("schema.json"))
    return schema


def _types(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        if "__class__" in node:
            yield f"{node.get('__module__')}.{node['__class__']}"
        for value in node.values():
            yield from _types(value)
    elif isinstance(node, list):
        for value in node:
            yield from _types(value)
