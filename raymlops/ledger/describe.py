"""Answers of the ledger as labelled lines, for people."""

from __future__ import annotations

from datetime import datetime

from raymlops.ledger.diff import Difference
from raymlops.ledger.lineage import Ancestors, Descendants, Lineage, Reign
from raymlops.ledger.provenance import NO_COMMIT
from raymlops.ledger.records import Code

_MAX_ALARMS = 5  # of a version, the newest

Lines = tuple[tuple[str, str], ...]
"""(label, text) in the order they are to be shown."""


def lineage_lines(lineage: Lineage) -> Lines:
    """The chain from a prediction, or a version, down to code and configuration."""
    version, run = lineage.version, lineage.run
    lines: list[tuple[str, str]] = []
    if (prediction := lineage.prediction) is not None:
        lines += [
            (
                "prediction",
                f"{prediction.request_id}: {prediction.num_rows} rows, served "
                f"{_time(prediction.served_at)} for event time {_time(prediction.event_time)}",
            ),
            ("arm", f"{prediction.arm}, on replica {prediction.replica}"),
        ]
    lines += [
        (
            "version",
            f"{version}, bundle {version.bundle[:12]}, registered {_time(version.created_at)}",
        ),
        ("run", f"{run.id}, {run.status}, started {_time(run.started_at)}"),
    ]
    for role, dataset in lineage.datasets:
        lines.append(
            (
                f"{role} data",
                f"{dataset.name} version {dataset.version}, {dataset.num_rows:,} rows, digest "
                f"{dataset.digest[:12]} ({dataset.description or 'no description'})",
            )
        )
    for alarm in lineage.alarms[-_MAX_ALARMS:]:
        lines.append(
            (
                "alarm",
                f"{alarm.detector} in arm {alarm.arm}, at request {alarm.request_id} of "
                f"{_time(alarm.event_time)}: errors rose from {alarm.reference_rate:.1%} to "
                f"{alarm.recent_rate:.1%}",
            )
        )
    packages = len(lineage.environment.splitlines()) - 1
    return (
        *lines,
        ("commit", _code_text(run.code)),
        ("config", f"digest {run.config_digest[:12]}, {len(lineage.config.splitlines())} lines"),
        ("environment", f"digest {run.environment_digest[:12]}, {packages} packages"),
    )


def reign_lines(reign: Reign) -> Lines:
    """Which version it was, since when, by whose decision and on what evidence."""
    decision = reign.decision
    since = f"wall time {_time(reign.move.at)}"
    if reign.move.event_time is not None:
        since += f", event time {_time(reign.move.event_time)}"
    evidence = ", ".join(
        f"{key} {f'{value:.4g}' if isinstance(value, float) else value}"
        for key, value in decision.evidence.items()
    )
    return (
        (reign.move.alias, str(reign.version)),
        ("since", since),
        ("by", decision.who),
        ("because", decision.why),
        ("evidence", evidence or "none"),
    )


def descent_lines(found: Descendants | Ancestors) -> Lines:
    """What came from a dataset version, or the dataset versions a model version came from."""
    match found:
        case Descendants():
            dataset = found.dataset
            return (
                ("dataset", f"{dataset.name} version {dataset.version}, {dataset.num_rows:,} rows"),
                *(("run", f"{run.id}, {run.kind}, {run.status}") for run in found.runs),
                *(("version", f"{version}, by {version.run_id}") for version in found.versions),
            )
        case Ancestors():
            return (
                ("version", f"{found.version}"),
                *(
                    (f"{role} data", f"{dataset.name} version {dataset.version}, given to {run_id}")
                    for run_id, role, dataset in found.datasets
                ),
            )


def difference_lines(difference: Difference) -> Lines:
    """Every differing row, and the configuration's lines that changed."""
    rows = [
        (row.group, f"{row.name}: {_value(row.values[0])} -> {_value(row.values[1])}")
        for row in difference.rows
    ]
    config = [("config", line) for line in difference.config[2:]]
    return (*rows, *config) or (("same", f"{difference.first} and {difference.second}"),)


def _code_text(code: Code) -> str:
    digest = (code.dirty_digest or "")[:12]
    if code.commit == NO_COMMIT:
        return f"none, no git checkout; digest of the folder's Python files {digest}"
    changes = f"with uncommitted changes {digest}" if digest else "nothing uncommitted"
    return f"{code.commit[:12]}, {changes}"


def _value(value: object) -> str:
    match value:
        case None:
            return "none"
        case float():
            return f"{value:.6g}"
        case _:
            return str(value)


def _time(time: datetime) -> str:
    return f"{time:%Y-%m-%d %H:%M:%S} UTC"
