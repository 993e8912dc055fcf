"""A served model for tests of its operator: real but for Ray, and a training that is handed in."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa
import pytest

from raymlops.config import Secret
from raymlops.data import between, num_rows, read_columns, take
from raymlops.errors import LedgerError, TrainingError
from raymlops.ledger import (
    Dataset,
    Labels,
    Ledger,
    ModelVersion,
    Pane,
    Prediction,
    Release,
    Run,
    class_labels,
    number_labels,
)
from raymlops.models import Bundle
from raymlops.monitor import DriftMonitor, DriftPolicy, WindowPolicy
from raymlops.operate import Challenger, Operator, Workspace
from raymlops.release import ReleaseController
from raymlops.serve import TrafficTable
from raymlops.serve.tap.latency import NUM_BUCKETS

WINDOW_DAYS = 7


SECRET = Secret("s3://key:shibboleth-81@bucket")


START = datetime(2024, 1, 1, tzinfo=UTC)  # a Monday


def day(number: float) -> datetime:
    return START + timedelta(days=number)


@dataclass
class World:
    """A served model: what it is asked and answers, written down as a replica would."""

    workspace: Workspace
    table: pa.Table
    champion: ModelVersion
    challenger: ModelVersion
    tables: list[TrafficTable] = field(default_factory=list)
    trainings: list[datetime] = field(default_factory=list)
    fails: bool = False
    failures: list[Exception] = field(default_factory=list)
    sequence: int = 0
    bundles: dict[str, Bundle] = field(default_factory=dict)
    model: str = "tumours"

    def monitor(self) -> DriftMonitor:
        windows = WindowPolicy(unit="week", label_delay=timedelta(0))
        store, ledger = self.workspace.store_uri, self.workspace.ledger_url
        return DriftMonitor(ledger, store, windows, DriftPolicy(min_rows=10**9))

    def operator(self) -> Operator:
        return Operator(
            self.workspace,
            monitor=self.monitor(),
            make_challenger=self.make_challenger,
            publish=self.tables.append,
        )

    def make_challenger(self, known_at: datetime) -> Challenger:
        self.trainings.append(known_at)
        if self.fails:
            raise TrainingError(f"the store at {SECRET.reveal()} is gone")
        if self.failures:
            raise self.failures.pop(0)
        start = known_at - timedelta(days=7)
        schema = self.workspace.schema
        holdout = between(self.table, schema.event_time, start, known_at)
        return Challenger(version=self.challenger, holdout=holdout, start=start, end=known_at)

    def live(self, start: datetime, end: datetime) -> None:
        """One request an hour; the newest traffic table decides who answers."""
        ledger, schema = self.workspace.ledger, self.workspace.schema
        rows = between(self.table, schema.event_time, start, end)
        columns, labels = read_columns(rows, schema.features), rows["target"].to_numpy()
        times = rows["seen_at"].to_pylist()
        for hour in sorted(set(times)):
            chosen = np.flatnonzero(np.array([time == hour for time in times]))
            self._answer(ledger, hour, take(columns, chosen), labels[chosen])

    def _bundle(self, version: str) -> Bundle:
        if version not in self.bundles:
            digest = self.workspace.ledger.registry.resolve(f"{self.model}@{version}").bundle
            self.bundles[version] = Bundle.load(self.workspace.store, digest)
        return self.bundles[version]

    def _answer(self, ledger: Ledger, hour: datetime, columns: object, labels: object) -> None:
        table = self.tables[-1] if self.tables else TrafficTable.champion(self.model, "1.0.0")
        request_id = hour.isoformat()
        arm = table.arm_of(request_id)
        bundle = self._bundle(arm.version)
        score = bundle.postprocessing.score
        scores = bundle.predict(columns)[score]  # type: ignore[arg-type]
        pane = Pane(
            model=self.model,
            version=arm.version,
            arm=arm.name,
            day=hour.date(),
            num_rows=num_rows(columns),  # type: ignore[arg-type]
            num_failed=0,
            cells=bundle.profile.count(columns, scores),  # type: ignore[arg-type]
            latency=(1,) + (0,) * (NUM_BUCKETS - 1),
        )
        prediction = Prediction(
            request_id=request_id,
            model=self.model,
            version=arm.version,
            arm=arm.name,
            scores=scores.tobytes(),
            num_rows=len(scores),
            served_at=hour,
            event_time=hour,
            replica="r1",
        )
        ledger.observations.add_tap("r1", self.sequence, [pane], [prediction])
        self.sequence += 1
        if bundle.postprocessing.classes:
            values = class_labels(np.asarray(labels).tolist())
        elif bundle.postprocessing.is_regression:
            values = number_labels(np.asarray(labels))
        else:
            values = np.asarray(labels, dtype=np.int8).tobytes()
        given = Labels(request_id=request_id, model=self.model, labels=values, at=hour)
        ledger.observations.add_labels([given])


def start_run(ledger: Ledger) -> Run:
    from raymlops.ledger import Code

    dataset: Dataset = ledger.datasets.add(
        name="tumours",
        digest="d",
        manifest="m",
        fields=(),
        num_rows=1,
        size_bytes=1,
        description="",
    )
    return ledger.runs.start(
        kind="train",
        model="tumours",
        params={},
        code=Code(commit="c", dirty_digest=None),
        config="{}",
        environment="",
        inputs={"train": dataset},
    )


def point(workspace: Workspace, version: ModelVersion) -> None:
    workspace.ledger.registry.move(
        "tumours", "champion", version.version, who="test", why="first", evidence={}
    )


def play(world: World, operator: Operator, first: int, last: int) -> list[str]:
    """Days [first, last): traffic, then a tick; what was decided, in order."""
    decided = []
    for number in range(first, last):
        world.live(day(number), day(number + 1))
        operator.wait_for_training(30)
        decided += [f"{d.kind}: {d.outcome}" for d in operator.tick(day(number + 1))]
    return decided


def succession(version: str) -> list[str]:
    """What is decided from a bad week to the end of a release of `version`, by shares of 30 and
    60 %."""
    return [
        "trigger: retrain",
        f"gate: {version} passed",
        f"release: {version} canary 30%",
        f"alias: challenger -> {version}",
        f"release: {version} canary 60%",
        f"alias: champion -> {version}",
        f"release: {version} promoted",
    ]


def released(world: World, operator: Operator) -> Release:
    return operator._controller.start(world.challenger, now=day(0), who="ann", why="by hand")


def at_the_last_step(world: World, operator: Operator) -> Release:
    """A release that is judged once more, and promoted then."""
    release = released(world, operator)
    state = release.state | {"step": 1}
    world.workspace.ledger.releases.advance(
        release.id, state, "running", outcome="canary 60%", who="test", why="on"
    )
    return release


def live_until_a_release_is_due(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A challenger has passed, and the operator died before it began to release it."""
    with monkeypatch.context() as patch:
        patch.setattr(ReleaseController, "start", killed)
        with pytest.raises(KeyboardInterrupt), world.operator() as operator:
            play(world, operator, 0, 8)


def published(world: World) -> TrafficTable:
    found = world.workspace.ledger.releases.published("tumours")
    assert found is not None
    return TrafficTable.from_dict(found[1])


def champion(world: World) -> str:
    return str(world.workspace.ledger.registry.alias("tumours", "champion"))


def third_version(world: World) -> ModelVersion:
    registry, ledger = world.workspace.ledger.registry, world.workspace.ledger
    return registry.register(
        "tumours",
        bundle=world.challenger.bundle,
        signature=ledger.text(world.challenger.signature_digest),
        run_id=world.challenger.run_id,
    )


def killed(*_: object, **__: object) -> None:
    raise KeyboardInterrupt


def seen(world: World, version: str, *, arm: str, failed: int, answered: int, on: datetime) -> None:
    """Requests that a version failed and answered."""
    world.sequence += 1
    pane = Pane(
        model="tumours",
        version=version,
        arm=arm,
        day=on.date(),
        num_rows=0,
        num_failed=failed,
        cells=np.zeros(world._bundle(version).profile.num_cells, dtype=np.int64),
        latency=(answered,) + (0,) * (NUM_BUCKETS - 1),
    )
    world.workspace.ledger.observations.add_tap("r2", world.sequence, [pane], [])


def deployed(world: World) -> None:
    """Replicas follow the champion, and from then on what operators publish."""
    releases, tables = world.workspace.ledger.releases, world.tables

    class Published(list[TrafficTable]):
        def append(self, table: TrafficTable) -> None:
            releases.publish("tumours", table.to_dict())
            super().append(table)

    world.tables = Published(tables)
    world.tables.append(TrafficTable.champion("tumours", "1.0.0"))


def away(*_: object, **__: object) -> None:
    raise LedgerError("the ledger at postgresql://db did not answer")
