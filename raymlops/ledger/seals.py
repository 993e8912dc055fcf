"""Seals: decisions that carry the digest of a row, so that the chain covers the row as well.

    model_versions row ──digest──▶ evidence of a decision ──digest──▶ the next decision ...

Whoever changes, removes or slips in a sealed row contradicts the chain. Alias moves and trusted
digests need no seal of their own: the decision behind each says the same, and must go on doing so.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Row, select

from raymlops.ledger import audit, decisions, schema, trust
from raymlops.ledger.database import Database

VERSION, DATASET = "version", "dataset"
WHO = "raymlops"
_TABLES = {VERSION: schema.model_versions, DATASET: schema.datasets}


def seal(connection: Connection, kind: str, row: Row[Any]) -> None:
    """Adds the decision that covers `row`, in the transaction that wrote it."""
    columns = sorted(map(str, row._mapping))
    evidence = {"columns": columns, "row": _digest(row, columns)}
    if kind == VERSION:
        evidence["run"] = _digest_of_run(connection, row.run_id)
    decisions.append(
        connection,
        model="",
        kind=kind,
        outcome=_name(kind, row),
        who=WHO,
        why="its row is under seal",
        evidence=evidence,
        event_time=None,
    )


def seal_all(connection: Connection) -> None:
    """Seals what an older raymlops has left without."""
    for kind, table in _TABLES.items():
        for row in connection.execute(select(table).order_by(table.c.created_at)).all():
            seal(connection, kind, row)


class Seals:
    def __init__(self, database: Database) -> None:
        self._database = database

    def broken(self) -> list[str]:
        """What contradicts the chain, in words; the chain itself is `audit`'s to check."""
        with self._database.read() as connection:
            return [*_rows(connection), *_moves(connection), *_trusted(connection)]


def _rows(connection: Connection) -> Iterator[str]:
    for kind, table in _TABLES.items():
        seals = {row.outcome: row for row in _decisions(connection, kind)}
        for row in connection.execute(select(table).order_by(table.c.created_at)).all():
            name = _name(kind, row)
            if (found := seals.pop(name, None)) is None:
                yield f"{name} has no seal: its row was slipped in, or changed in name or number"
                continue
            evidence = found.evidence
            if evidence["row"] != _digest(row, evidence["columns"]):
                yield f"{name} is not what was written: its row was changed"
            elif evidence.get("run") != (
                _digest_of_run(connection, row.run_id) if kind == VERSION else None
            ):
                yield f"run {row.run_id} behind {name} is not what it was: it was changed"
        for name, found in seals.items():
            yield f"{name}, sealed by decision {found.id}, is gone: its row was removed"


def _moves(connection: Connection) -> Iterator[str]:
    table = schema.alias_moves
    unused = {row.id: row for row in _decisions(connection, "alias")}
    latest = 0
    for move in connection.execute(select(table).order_by(table.c.id)).all():
        name = f"alias move {move.id} ({move.model}: {move.alias} -> {move.version})"
        behind = unused.pop(move.decision_id, None)
        if behind is None:
            yield f"{name} has no decision of its own: it was slipped in"
        elif (behind.model, behind.outcome, behind.at, behind.event_time) != (
            move.model, f"{move.alias} -> {move.version}", move.at, move.event_time,
        ):  # fmt: skip
            yield f"{name} is not what decision {behind.id} says: it was changed"
        elif move.decision_id < latest:  # the last move of an alias is where it points
            yield f"{name} stands behind moves that were decided later: it was renumbered"
        latest = max(latest, move.decision_id)
    for decision in unused.values():
        yield f"the move of decision {decision.id} ({decision.outcome}) is gone: it was removed"


def _trusted(connection: Connection) -> Iterator[str]:
    vouched = {row.evidence.get("digest"): row.id for row in _decisions(connection, trust.KIND)}
    for row in connection.execute(select(schema.trusted)).all():
        if vouched.pop(row.digest, None) != row.decision_id:
            yield f"nobody vouched for {row.digest}: it was slipped in among the trusted"
    for digest, decision_id in vouched.items():
        yield f"{digest}, trusted by decision {decision_id}, is gone: its row was removed"


def _decisions(connection: Connection, kind: str) -> Sequence[Row[Any]]:
    row = schema.decisions.c
    return connection.execute(
        select(schema.decisions).where(row.kind == kind).order_by(row.id)
    ).all()


def _name(kind: str, row: Row[Any]) -> str:
    if kind == VERSION:
        return f"{row.model} {row.major}.{row.minor}.{row.patch}"
    return f"dataset {row.name} {row.version}"


def _digest(row: Row[Any], columns: Sequence[str]) -> str:
    return audit.digest(audit.BEGINNING, {name: row._mapping[name] for name in columns})


def _digest_of_run(connection: Connection, run_id: str) -> str:
    """Over what a run was given: code, settings, parameters and inputs."""
    run, param, given = schema.runs.c, schema.params.c, schema.run_inputs.c
    queries = (
        select(
            run.parent_id, run.kind, run.model, run.commit, run.dirty_digest,
            run.config_digest, run.environment_digest, run.started_at,
        ).where(run.id == run_id),
        select(param.name, param.value).where(param.run_id == run_id).order_by(param.name),
        select(given.role, given.dataset_name, given.dataset_version)
        .where(given.run_id == run_id)
        .order_by(given.role),
    )  # fmt: skip
    parts: list[list[Mapping[str, Any]]] = [
        [dict(row._mapping) for row in connection.execute(query)] for query in queries
    ]
    return audit.digest(audit.BEGINNING, {"run": parts})
