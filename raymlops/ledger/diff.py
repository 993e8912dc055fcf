"""What changed between two versions, or two runs."""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from raymlops.ledger.ledger import Ledger
from raymlops.ledger.records import Code, ModelVersion, Run
from raymlops.ledger.tracking.comparison import Row, side_by_side


@dataclass(frozen=True, kw_only=True)
class Difference:
    """Rows that differ, each with the value of the first and of the second.

    `rows` are of the groups params, metrics, inputs, signature, code and environment, by name;
    `config` is a unified diff, line by line.
    """

    first: str
    second: str
    rows: tuple[Row, ...]
    config: tuple[str, ...]

    def of(self, group: str) -> dict[str, tuple[Any, Any]]:
        """The differing values of a group, by name."""
        return {row.name: (row.values[0], row.values[1]) for row in self.rows if row.group == group}


def diff(ledger: Ledger, first: str, second: str) -> Difference:
    """What changed from `first` to `second`, each MODEL@1.2.3, MODEL@ALIAS or the id of a run.

    Raises:
        NotFoundError: there is no such version or run.
    """
    pair = (_Side.of(ledger, first), _Side.of(ledger, second))
    runs = [side.run for side in pair]
    last = ledger.runs.last_metrics_of([run.id for run in runs])
    texts = [ledger.text(run.config_digest) for run in runs]
    environments = [ledger.text(run.environment_digest) for run in runs]
    rows = side_by_side(
        (first, second),
        params=[run.params for run in runs],
        metrics=[last.get(run.id, {}) for run in runs],
        inputs=[
            {
                role: f"{name} {version}"
                for role, (name, version) in ledger.runs.inputs(run.id).items()
            }
            for run in runs
        ],
        signature=[_flat(side.signature(ledger)) for side in pair],
        code=[_code(run.code) for run in runs],
        environment=[_packages(text) for text in environments],
    ).differing
    lines = difflib.unified_diff(
        texts[0].splitlines(), texts[1].splitlines(), first, second, lineterm="", n=1
    )
    return Difference(first=first, second=second, rows=rows, config=tuple(lines))


@dataclass(frozen=True)
class _Side:
    run: Run
    version: ModelVersion | None

    @classmethod
    def of(cls, ledger: Ledger, subject: str) -> _Side:
        if "@" not in subject:
            return cls(ledger.runs.get(subject), None)
        version = ledger.registry.resolve(subject)
        return cls(ledger.runs.get(version.run_id), version)

    def signature(self, ledger: Ledger) -> Any:
        """As JSON holds it; nothing for a run that made no version."""
        version = self.version
        if version is None:
            made = ledger.registry.of_runs([self.run.id])
            version = made[-1] if made else None
        return json.loads(ledger.text(version.signature_digest)) if version is not None else {}


def _flat(value: Any, path: str = "") -> dict[str, Any]:
    """Nested JSON as leaves by path; list entries with a `name` go by that, others by number."""
    match value:
        case dict():
            entries: Mapping[str, Any] = value
        case list():
            entries = {
                str(each.get("name", number)) if isinstance(each, dict) else str(number): each
                for number, each in enumerate(value)
            }
        case _:
            return {path: value}
    return {
        key: leaf
        for name, inner in entries.items()
        for key, leaf in _flat(inner, f"{path}.{name}" if path else name).items()
    }


def _code(code: Code) -> dict[str, Any]:
    return {"commit": code.commit, "uncommitted changes": code.dirty_digest}


def _packages(environment: str) -> dict[str, str]:
    """Versions by package, from lines NAME==VERSION."""
    lines = (line.partition("==") for line in environment.splitlines())
    return {name: version for name, _, version in lines}
