"""Questions over the whole ledger: why a prediction was what it was, who was champion when."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from raymlops.errors import NotFoundError
from raymlops.ledger.ledger import Ledger
from raymlops.ledger.records import AliasMove, Dataset, Decision, ModelVersion, Prediction, Run
from raymlops.ledger.version import Version


@dataclass(frozen=True, kw_only=True)
class Lineage:
    """A version and everything it was made of; `prediction` when a request was asked about."""

    prediction: Prediction | None
    version: ModelVersion
    run: Run
    datasets: tuple[tuple[str, Dataset], ...]
    config: str
    environment: str


@dataclass(frozen=True, kw_only=True)
class Reign:
    """Which version an alias named at a time, and the decision that had put it there."""

    move: AliasMove
    decision: Decision
    version: ModelVersion


def why(ledger: Ledger, subject: str) -> Lineage:
    """The lineage of a request id, or of a version written MODEL@ALIAS or MODEL@1.2.3.

    Raises:
        NotFoundError: the ledger knows neither such a request nor such a version.
    """
    if "@" in subject:
        return _lineage(ledger, None, ledger.registry.resolve(subject))
    prediction = ledger.observations.prediction(subject)
    version = ledger.registry.get(prediction.model, Version.parse(prediction.version))
    return _lineage(ledger, prediction, version)


def at(
    ledger: Ledger, model: str, time: datetime, *, alias: str = "champion", event_time: bool = False
) -> Reign:
    """What `alias` named at `time`, which is wall time or, on request, event time.

    Raises:
        NotFoundError: the alias had not been set by then.
    """
    moves = ledger.registry.moves(model, alias)
    begun = [move for move in moves if (when := _when(move, event_time)) and when <= time]
    if not begun:
        first = next((when for move in moves if (when := _when(move, event_time))), None)
        raise NotFoundError(
            f"{model} had no {alias} at {time.isoformat()}; "
            + (f"the first came {first.isoformat()}" if first else "it never had one")
        )
    # Event times may run behind wall time (a replay), so the newest is by time, then by order.
    move = max(begun, key=lambda move: (_when(move, event_time), move.id))
    return Reign(
        move=move,
        decision=ledger.decisions.get(move.decision_id),
        version=ledger.registry.get(model, move.version),
    )


def _when(move: AliasMove, event_time: bool) -> datetime | None:
    return move.event_time if event_time else move.at


def _lineage(ledger: Ledger, prediction: Prediction | None, version: ModelVersion) -> Lineage:
    run = ledger.runs.get(version.run_id)
    inputs = ledger.runs.inputs(run.id)
    return Lineage(
        prediction=prediction,
        version=version,
        run=run,
        datasets=tuple((role, ledger.datasets.get(*key)) for role, key in sorted(inputs.items())),
        config=ledger.text(run.config_digest),
        environment=ledger.text(run.environment_digest),
    )
