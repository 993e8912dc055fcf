"""What was seen of models in service: predictions, labels, counts, and windows judged by them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from datetime import date, datetime
from typing import Any

import numpy as np
from sqlalchemy import Connection, Row, Table, delete, func, insert, select

from raymlops.errors import NotFoundError
from raymlops.ledger import schema
from raymlops.ledger.database import Database
from raymlops.ledger.records import Drift, Labels, Outcome, Pane, Performance, Prediction


class Observations:
    """Adding is idempotent: a message that is repeated after a crash changes nothing."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add_tap(
        self, replica: str, sequence: int, panes: Iterable[Pane], predictions: Iterable[Prediction]
    ) -> bool:
        """Merges message number `sequence` of `replica`; False when it was merged before.

        Counts, predictions and the sequence number land in one transaction, so that a message is
        counted once however often it is sent. A replica must send its messages in order.
        """
        with self._database.write() as connection:
            if sequence < _next_sequence(connection, replica):
                return False
            _set_next_sequence(connection, replica, sequence + 1)
            for pane in panes:
                _merge_pane(connection, pane)
            _add_new(connection, schema.predictions, [asdict(row) for row in predictions])
        return True

    def add_labels(self, labels: Iterable[Labels]) -> int:
        """Stores the labels of requests that have none yet; returns how many those were."""
        with self._database.write() as connection:
            return _add_new(connection, schema.labels, [asdict(row) for row in labels])

    def prediction(self, request_id: str) -> Prediction:
        with self._database.read() as connection:
            row = connection.execute(
                select(schema.predictions).where(schema.predictions.c.request_id == request_id)
            ).one_or_none()
        if row is None:
            raise NotFoundError(f"the ledger holds no prediction for request '{request_id}'")
        return Prediction(**row._mapping)

    def outcomes(
        self, model: str, *, start: datetime, end: datetime, version: str | None = None
    ) -> list[Outcome]:
        """Labelled predictions whose event time lies in [start, end), in that order.

        A request with as many labels as rows counts; one labelled otherwise is left out.
        """
        predictions, labels = schema.predictions.c, schema.labels.c
        query = (
            select(schema.predictions, labels.labels)
            .join(schema.labels, predictions.request_id == labels.request_id)
            .where(predictions.model == model)
            .where(predictions.event_time >= start, predictions.event_time < end)
            .order_by(predictions.event_time, predictions.request_id)
        )
        if version is not None:
            query = query.where(predictions.version == version)
        with self._database.read() as connection:
            rows = [_outcome(row) for row in connection.execute(query)]
        return [row for row in rows if len(row.scores) == len(row.labels)]

    def count_predictions(self, model: str) -> int:
        query = select(func.count()).where(schema.predictions.c.model == model)
        with self._database.read() as connection:
            return connection.scalar(query) or 0

    def panes(self, model: str, *, start: date, end: date) -> list[Pane]:
        """The counts of each arm and day in [start, end), in that order."""
        columns = schema.panes.c
        query = (
            select(schema.panes)
            .where(columns.model == model, columns.day >= start, columns.day < end)
            .order_by(columns.day, columns.version, columns.arm)
        )
        with self._database.read() as connection:
            return [_pane(row) for row in connection.execute(query)]

    def add_performance(self, rows: Sequence[Performance]) -> None:
        self._replace(schema.performance, [asdict(row) for row in rows])

    def performance(self, model: str) -> list[Performance]:
        return [Performance(**values) for values in self._windows(schema.performance, model)]

    def add_drift(self, rows: Sequence[Drift]) -> None:
        self._replace(schema.drift, [asdict(row) for row in rows])

    def drift(self, model: str) -> list[Drift]:
        return [Drift(**values) for values in self._windows(schema.drift, model)]

    def _replace(self, table: Table, rows: list[dict[str, Any]]) -> None:
        keys = [key for key in _WINDOW_KEYS if key in table.c]
        with self._database.write() as connection:
            for row in rows:
                same = [table.c[key] == row[key] for key in keys]
                connection.execute(delete(table).where(*same))
                connection.execute(insert(table), row)

    def _windows(self, table: Table, model: str) -> list[dict[str, Any]]:
        query = select(table).where(table.c.model == model)
        with self._database.read() as connection:
            rows = connection.execute(query.order_by(table.c.window_start, table.c.id))
            return [
                {key: value for key, value in row._mapping.items() if key != "id"} for row in rows
            ]


_WINDOW_KEYS = ("model", "version", "arm", "window_start", "window_end", "metric", "feature")


def _next_sequence(connection: Connection, replica: str) -> int:
    offsets = schema.tap_offsets.c
    query = select(offsets.next_sequence).where(offsets.replica == replica)
    return connection.scalar(query) or 0


def _set_next_sequence(connection: Connection, replica: str, sequence: int) -> None:
    table = schema.tap_offsets
    connection.execute(delete(table).where(table.c.replica == replica))
    connection.execute(insert(table), {"replica": replica, "next_sequence": sequence})


def _merge_pane(connection: Connection, pane: Pane) -> None:
    table = schema.panes
    keys = {name: getattr(pane, name) for name in ("model", "version", "arm", "day")}
    same = [table.c[name] == value for name, value in keys.items()]
    row = connection.execute(select(table).where(*same)).one_or_none()
    if row is not None:
        pane = _pane(row) + pane
        connection.execute(delete(table).where(*same))
    connection.execute(
        insert(table),
        keys
        | {
            "num_rows": pane.num_rows,
            "num_failed": pane.num_failed,
            "cells": pane.cells.astype("<i8").tobytes(),
            "latency": list(pane.latency),
        },
    )


def _add_new(connection: Connection, table: Table, rows: list[dict[str, Any]]) -> int:
    """Inserts the rows whose request id is not there yet, the first of each."""
    by_id = {row["request_id"]: row for row in reversed(rows)}
    if not by_id:
        return 0
    query = select(table.c.request_id).where(table.c.request_id.in_(by_id))
    for known in connection.scalars(query).all():
        del by_id[known]
    if by_id:
        connection.execute(insert(table), list(by_id.values()))
    return len(by_id)


def _pane(row: Row[Any]) -> Pane:
    return Pane(
        model=row.model,
        version=row.version,
        arm=row.arm,
        day=row.day,
        num_rows=row.num_rows,
        num_failed=row.num_failed,
        cells=np.frombuffer(row.cells, dtype="<i8"),
        latency=tuple(row.latency),
    )


def _outcome(row: Row[Any]) -> Outcome:
    return Outcome(
        request_id=row.request_id,
        version=row.version,
        arm=row.arm,
        event_time=row.event_time,
        scores=np.frombuffer(row.scores, dtype="<f4"),
        labels=np.frombuffer(row.labels, dtype=np.int8),
    )
