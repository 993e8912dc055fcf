"""What a person may ask of the alerts of a home: silences, and a trial of the sinks."""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from concurrent.futures import wait
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from fnmatch import fnmatchcase
from functools import partial

from raymlops.config import redact
from raymlops.errors import NotFoundError
from raymlops.monitor.alerts import (
    NAMES,
    Alert,
    AlertBook,
    DeliveryError,
    Silence,
    Sink,
    deliver,
    open_sinks,
)
from raymlops.monitor.alerts.couriers import begin
from raymlops.operate.workspace import Workspace

_LONGEST_S = 30.0  # a sink gives up after ten, and is told twice


def silence(
    workspace: Workspace, *, model: str, name: str, length: timedelta, who: str, why: str
) -> Silence:
    """Has nobody told of what `model` and `name` fit, from now on for so long.

    Raises:
        NotFoundError: no alert is called so.
    """
    if not any(fnmatchcase(known, name) for known in NAMES):
        raise NotFoundError(f"no alert is called '{name}'; there are: {', '.join(NAMES)}")
    now = datetime.now(UTC)
    made = Silence(
        id=secrets.token_hex(4),
        model=model,
        name=name,
        starts_at=now,
        ends_at=now + length,
        who=who,
        why=why,
    )
    with AlertBook(workspace.home).open() as book:
        book.silences = (*book.silences, made)
    return made


def end_silences(workspace: Workspace, ids: Iterable[str]) -> int:
    """Ends silences before their time; how many there were.

    Raises:
        NotFoundError: one is not there, and none was ended.
    """
    wanted = set(ids)
    with AlertBook(workspace.home).open() as book:
        known = {each.id for each in book.silences}
        if unknown := wanted - known:
            raise NotFoundError(
                f"there is no silence '{min(unknown)}', but {', '.join(sorted(known)) or 'none'}"
            )
        kept = tuple(each for each in book.silences if each.id not in wanted)
        ended = len(book.silences) - len(kept)
        book.silences = kept
    return ended


def trial(workspace: Workspace) -> dict[str, str | None]:
    """Sends an alert to every sink at once, and its end; by sink what went wrong, None where
    nothing."""
    now = datetime.now(UTC)
    alert = Alert(
        id=f"test-{secrets.token_hex(4)}",
        fingerprint="test",
        status="firing",
        severity="info",
        name="test",
        model="none",
        summary="This is a test of raymlops' alerts; nothing is wrong.",
        evidence={},
        started_at=now,
        ended_at=None,
    )
    over = replace(alert, status="resolved", ended_at=now + timedelta(seconds=1))
    couriers = {
        sink.name: begin(partial(_problem, sink, (alert, over)))
        for sink in open_sinks(workspace.settings.alerts)
    }
    wait(couriers.values(), timeout=_LONGEST_S)
    return {
        name: courier.result() if courier.done() else f"it has not answered in {_LONGEST_S:g} s"
        for name, courier in couriers.items()
    }


def _problem(sink: Sink, alerts: Iterable[Alert]) -> str | None:
    try:
        for alert in alerts:
            deliver(sink, alert)
    except DeliveryError as error:
        return redact(error.message)
    return None
