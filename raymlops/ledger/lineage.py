"""Questions over the whole ledger: why a prediction was what it was, who was champion when, and
what came from which data."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from raymlops.errors import NotFoundError
from raymlops.ledger.ledger import Ledger
from raymlops.ledger.records import (
    AliasMove,
    ConceptAlarm,
    Dataset,
    Decision,
    ModelVersion,
    Prediction,
    Run,
)
from raymlops.ledger.version import Version


@dataclass(frozen=True, kw_only=True)
class Lineage:
    """A version and everything it was made of; `prediction` when a request was asked about.

    `alarms` are those of concept drift that were raised of the version, in order.
    """

    prediction: Prediction | None
    version: ModelVersion
    run: Run
    datasets: tuple[tuple[str, Dataset], ...]
    config: str
    environment: str
    alarms: tuple[ConceptAlarm, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Reign:
    """Which version an alias named at a time, and the decision that had put it there."""

    move: AliasMove
    decision: Decision
    version: ModelVersion


@dataclass(frozen=True, kw_only=True)
class Descendants:
    """Everything that came from a dataset version."""

    dataset: Dataset
    runs: tuple[Run, ...]
    versions: tuple[ModelVersion, ...]


@dataclass(frozen=True, kw_only=True)
class Ancestors:
    """Every dataset version a model version came from: (run, role, dataset), its own run first."""

    version: ModelVersion
    datasets: tuple[tuple[str, str, Dataset], ...]


def versions_from(ledger: Ledger, dataset: Dataset) -> Descendants:
    """The runs that came from `dataset`, and the versions they made.

    A run came from what it was given, from what a run around it was given, and from what was given
    to the runs inside it.
    """
    runs = ledger.runs.using(dataset.name, dataset.version)
    versions = ledger.registry.of_runs([run.id for run in runs])
    return Descendants(dataset=dataset, runs=tuple(runs), versions=tuple(versions))


def datasets_of(ledger: Ledger, version: ModelVersion) -> Ancestors:
    """The other way round: what `versions_from` finds `version` by."""
    runs = ledger.runs
    own = runs.get(version.run_id)
    family = [own]
    outer = own
    while outer.parent_id is not None:
        outer = runs.get(outer.parent_id)
        family.append(outer)
    inner = [own]
    while inner:
        inner = [nested for run in inner for nested in runs.list(parent_id=run.id)]
        family += inner
    return Ancestors(
        version=version,
        datasets=tuple(
            (run.id, role, ledger.datasets.get(*key))
            for run in family
            for role, key in sorted(runs.inputs(run.id).items())
        ),
    )


def lineage_of(ledger: Ledger, subject: str) -> Descendants | Ancestors:
    """What came from DATASET or DATASET@VERSION, or what MODEL@1.2.3 or MODEL@ALIAS came from.

    A dataset's versions are plain numbers, a model's are not, so both may have the same name.

    Raises:
        NotFoundError: there is no such version.
    """
    name, _, version = subject.partition("@")
    if not version or version.isdigit():
        return versions_from(ledger, ledger.datasets.get(name, int(version) if version else None))
    return datasets_of(ledger, ledger.registry.resolve(subject))


def why(ledger: Ledger, subject: str, *, model: str | None = None) -> Lineage:
    """The lineage of a request id, or of a version written MODEL@ALIAS or MODEL@1.2.3.

    Args:
        model: which answered the request, where several have answered one of that id.

    Raises:
        NotFoundError: the ledger knows neither such a request nor such a version, or several.
    """
    if "@" in subject:
        return _lineage(ledger, None, ledger.registry.resolve(subject))
    prediction = ledger.observations.prediction(subject, model)
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
        alarms=tuple(ledger.watches.alarms(version.model, version=str(version.version))),
    )
