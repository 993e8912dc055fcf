"""The loop with everything real but Ray: monitor and bundles, a training that is handed in."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from raymlops.config import Secret
from raymlops.data import TableSchema, between, num_rows, read_columns, take
from raymlops.errors import (
    ConfigError,
    ConflictError,
    CoordinationError,
    LedgerError,
    ReleaseError,
    StaleLeaseError,
    TrainingError,
    UnservableError,
)
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
    tables,
)
from raymlops.ledger.fencing import Fence
from raymlops.models import Bundle
from raymlops.monitor import DriftMonitor, DriftPolicy, WindowPolicy, WindowReport
from raymlops.monitor.concept import Baseline
from raymlops.operate import Challenger, Operator, Workspace, end_release, releasing, rollback
from raymlops.operate.triggers import RetrainPolicy
from raymlops.release import ReleaseController
from raymlops.release.canary import Evidence
from raymlops.serve import TrafficTable
from raymlops.serve.latency import NUM_BUCKETS
from tests.operate.bundles import bundle_of

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
        else:
            values = np.asarray(labels, dtype=np.int8).tobytes()
        given = Labels(request_id=request_id, model=self.model, labels=values, at=hour)
        ledger.observations.add_labels([given])


CONFIG = """
model: tumours
data:
  dataset: tumours
  target: target
  event_time: seen_at
  features:
    - {name: mean_radius, kind: number}
    - {name: mean_texture, kind: number}
    - {name: worst_concavity, kind: number, max_missing: 0.2}
    - {name: size, kind: category}
retrain: {on: [performance], cooldown_days: 13}
gate: {holdout_days: 7, min_rows: 50}
release: {shares: [0.3, 0.6], min_rows: 40, min_days: 3, max_days: 10}
"""


@pytest.fixture
def workspace(tmp_path: Path) -> Iterator[Workspace]:
    (tmp_path / "tumours.yaml").write_text(CONFIG)
    config, home = tmp_path / "tumours.yaml", tmp_path / "home"
    with Workspace.open(config, overrides=[f"home={home}"]) as workspace:
        yield workspace


@pytest.fixture(scope="module")
def bundles(tumours: pa.Table, tumour_schema: TableSchema) -> dict[bool, Bundle]:
    """A model of the truth, and one that has learned the opposite (True: inverted)."""
    return {
        inverted: bundle_of(tumours, tumour_schema, inverted=inverted) for inverted in (True, False)
    }


@pytest.fixture
def world(workspace: Workspace, tumours: pa.Table, bundles: dict[bool, Bundle]) -> World:
    """Six weeks of tumours, one a half hour; the champion has learned the opposite of the truth."""
    times = [START + timedelta(hours=number // 2) for number in range(2 * 24 * 42)]
    repeated = pa.concat_tables([tumours] * 4).slice(0, len(times)).drop(["seen_at"])
    table = repeated.append_column("seen_at", pa.array(times, pa.timestamp("us", tz="UTC")))
    run = start_run(workspace.ledger)

    def register(*, inverted: bool) -> ModelVersion:
        bundle = bundles[inverted]
        return workspace.ledger.registry.register(
            "tumours",
            bundle=bundle.save(workspace.store),
            signature=json.dumps(bundle.signature.to_dict()),
            run_id=run.id,
        )

    champion, challenger = register(inverted=True), register(inverted=False)
    point(workspace, champion)
    return World(workspace=workspace, table=table, champion=champion, challenger=challenger)


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


def test_a_bad_week_ends_in_a_new_champion(world: World) -> None:
    with world.operator() as operator:
        decided = play(world, operator, 0, 21)
    assert decided == [
        "trigger: retrain",
        "gate: 1.0.1 passed",
        "release: 1.0.1 canary 30%",
        "alias: challenger -> 1.0.1",
        "release: 1.0.1 canary 60%",
        "alias: champion -> 1.0.1",
        "release: 1.0.1 promoted",
    ]
    assert world.trainings == [day(7)]
    shares = [[(arm.name, arm.version, arm.share) for arm in t.arms] for t in world.tables]
    assert shares == [
        [("champion", "1.0.0", 0.7), ("canary", "1.0.1", 0.3)],
        [("champion", "1.0.0", 0.4), ("canary", "1.0.1", 0.6)],
        [("champion", "1.0.1", 1.0)],
    ]


def test_errors_that_rise_trigger_in_the_middle_of_a_window(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The champion errs on most rows, and 200 requests at 0.05 were learned as how it should be.
    retrain = RetrainPolicy(on=("concept",), cooldown_days=13)
    settings = replace(world.workspace.settings, retrain=retrain)
    monkeypatch.setattr(Workspace, "settings", settings)
    with world.operator() as operator:
        watch = operator._monitor.watch
        monkeypatch.setattr(
            DriftMonitor, "_baseline", lambda *_: Baseline(threshold=0.5, error_rate=0.05)
        )
        assert play(world, operator, 0, 1) == ["trigger: retrain"]
        assert watch("tumours") == ()
    first = world.workspace.ledger.decisions.list(model="tumours", kind="trigger")[0]
    assert first.evidence["cause"] == "concept"
    assert first.evidence["error_rate"] > 0.5
    # Alarms that were considered are not considered again, by the next operator either.
    world.challenger = world.champion
    with world.operator() as operator:
        operator.wait_for_training(30)
        assert [d.kind for d in operator.tick(day(1))] == ["gate"]
        assert operator.tick(day(1)) == ()
        assert play(world, operator, 1, 2) == ["trigger: suppressed"]


def test_a_challenger_that_is_no_better_is_refused_and_does_not_retrigger(world: World) -> None:
    world.challenger = world.champion
    with world.operator() as operator:
        decided = play(world, operator, 0, 20)
        assert decided == ["trigger: retrain", "gate: 1.0.0 refused", "trigger: suppressed"]
        # The cooldown of 13 days is over when the third week closes, as bad as the others.
        assert play(world, operator, 20, 21) == ["trigger: retrain"]
    assert world.tables == []


def test_a_challenger_that_would_refuse_callers_gets_none_of_them(world: World) -> None:
    """Refused requests get no labels, and are their callers' fault to guards: such a canary kept
    its share of them until `max_days`."""
    ledger = world.workspace.ledger
    signature = json.loads(ledger.text(world.challenger.signature_digest))
    signature["inputs"][0] |= {"low": 10.0, "high": 11.0}
    world.challenger = ledger.registry.register(
        "tumours",
        bundle=world.challenger.bundle,
        signature=json.dumps(signature),
        run_id=world.challenger.run_id,
        bump="major",
    )
    with world.operator() as operator:
        assert play(world, operator, 0, 8) == ["trigger: retrain", "gate: 2.0.0 refused"]
    told = r"tumours 2\.0\.0 refuses requests that tumours 1\.0\.0 takes"
    with pytest.raises(ReleaseError, match=told):
        releasing.release(world.workspace, world.challenger, now=START, who="ann", why="try")
    assert world.tables == []


def test_a_training_that_fails_is_a_refusal_with_its_reason(world: World) -> None:
    world.fails = True
    with world.operator() as operator:
        play(world, operator, 0, 8)
    gate = world.workspace.ledger.decisions.list(model="tumours", kind="gate")[-1]
    assert gate.outcome == "refused"
    assert gate.why == "no challenger could be made and judged: the store at *** is gone"


def test_an_operator_that_dies_is_replaced_at_the_same_step(world: World) -> None:
    with world.operator() as operator:
        assert play(world, operator, 0, 7) == ["trigger: retrain"]
    # It died before the gate: the next one trains again, as of the same event time.
    with world.operator() as operator:
        assert play(world, operator, 7, 8)[0] == "gate: 1.0.1 passed"
    assert world.trainings == [day(7), day(7)]
    # It died during the canary: the next one publishes the same table and takes the next steps.
    published = world.tables[-1]
    with world.operator() as operator:
        assert world.tables[-1] == published
        assert len(world.tables) == 2
        assert play(world, operator, 8, 21)[-1] == "release: 1.0.1 promoted"


def killed(*_: object, **__: object) -> None:
    raise KeyboardInterrupt


def test_a_release_that_an_operator_died_before_is_begun_by_the_next(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(ReleaseController, "start", killed)
        with pytest.raises(KeyboardInterrupt), world.operator() as operator:
            play(world, operator, 0, 8)
    assert world.workspace.ledger.decisions.list(model="tumours")[-1].outcome == "1.0.1 passed"
    with world.operator() as operator:
        assert play(world, operator, 8, 9) == [
            "release: 1.0.1 canary 30%",
            "alias: challenger -> 1.0.1",
        ]
        assert play(world, operator, 9, 21)[-1] == "release: 1.0.1 promoted"
        assert play(world, operator, 21, 22) == []
    assert world.trainings == [day(7)]


def test_a_release_is_not_begun_after_a_person_chose_the_champion(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(ReleaseController, "start", killed)
        with pytest.raises(KeyboardInterrupt), world.operator() as operator:
            play(world, operator, 0, 8)
    point(world.workspace, world.champion)
    with world.operator() as operator:
        assert operator.tick(day(8)) == ()
    assert world.workspace.ledger.releases.running("tumours") is None


def test_a_window_judged_for_an_operator_that_died_is_considered_once(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.live(day(0), day(7))
    assert len(world.monitor().advance("tumours", day(7))) == 1  # killed before it heard of it

    for method in ("_decide", "_train"):  # killed before the trigger was written, and after
        with monkeypatch.context() as patch:
            patch.setattr(Operator, method, killed)
            with pytest.raises(KeyboardInterrupt), world.operator() as operator:
                operator.tick(day(7))
    world.challenger = world.champion
    with world.operator() as operator:
        assert play(world, operator, 7, 8) == ["gate: 1.0.0 refused"]
    triggers = world.workspace.ledger.decisions.list(model="tumours", kind="trigger")
    assert [each.outcome for each in triggers] == ["retrain"]
    assert world.trainings == [day(7)]


def test_a_window_that_calls_for_nothing_is_not_considered_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    with world.operator() as operator:
        considered: list[WindowReport] = []
        monkeypatch.setattr(
            "raymlops.operate.operator.find_trigger",
            lambda policy, report, *_: considered.append(report),
        )
        assert play(world, operator, 0, 16) == []
    assert [each.window.end for each in considered] == [day(7), day(14)]


@pytest.mark.parametrize(("cause", "told"), [("drift", 1), ("performance", 0)])
def test_drift_that_is_never_looked_for_is_warned_of_where_it_should_trigger(
    world: World, caplog: pytest.LogCaptureFixture, cause: str, told: int
) -> None:
    # A team with 48 requests a day thought it was watched for drift.
    config = world.workspace.home.parent / "tumours.yaml"
    overrides = [f"home={world.workspace.home}", f"retrain.on=[{cause}]"]
    with Workspace.open(config, overrides=overrides) as workspace:
        world.workspace = workspace
        with world.operator() as operator:
            world.live(day(0), day(7))
            operator.tick(day(7))
    warnings = [each.getMessage() for each in caplog.records if "not judged" in each.msg]
    assert len(warnings) == told
    if told:
        assert warnings == [
            "drift of tumours 1.0.0 is not judged in 2024-01-01 to 2024-01-08, and calls for no "
            "new model: it has 336 rows, monitor.drift.min_rows is 500; take longer windows, or "
            "set that lower"
        ]


def test_a_release_that_turns_bad_is_rolled_back(world: World) -> None:
    # The truth is served, and a challenger that has learned the opposite was released by hand.
    world.champion, world.challenger = world.challenger, world.champion
    point(world.workspace, world.champion)
    with world.operator() as operator:
        operator._controller.start(world.challenger, now=day(0), who="test", why="by hand")
        decided = play(world, operator, 0, 6)
    assert decided == ["release: 1.0.0 rolled back"]
    assert world.tables[-1] == TrafficTable.champion("tumours", "1.0.1")
    assert str(world.workspace.ledger.registry.alias("tumours", "champion")) == "1.0.1"


def test_a_challenger_that_cannot_be_served_is_rolled_back(world: World) -> None:
    def publish(table: TrafficTable) -> None:
        if len(table.arms) > 1:
            raise ReleaseError("table 2 of tumours is refused: IntegrityError")
        world.tables.append(table)

    operator = Operator(
        world.workspace,
        monitor=world.monitor(),
        make_challenger=world.make_challenger,
        publish=publish,
    )
    with operator:
        decided = play(world, operator, 0, 8)
    assert decided[-3:] == [
        "release: 1.0.1 canary 30%", "alias: challenger -> 1.0.1", "release: 1.0.1 rolled back",
    ]  # fmt: skip
    assert world.tables == [TrafficTable.champion("tumours", "1.0.0")]
    ledger = world.workspace.ledger
    assert ledger.releases.running("tumours") is None
    assert ledger.decisions.list(model="tumours")[-1].why == (
        "it cannot be served: table 2 of tumours is refused: IntegrityError"
    )


def test_traffic_follows_an_alias_that_a_person_moved(world: World) -> None:
    releases = world.workspace.ledger.releases
    releases.publish("tumours", TrafficTable.champion("tumours", "1.0.0").to_dict())
    with world.operator() as operator:
        operator.tick(day(0))
        assert world.tables == []
        point(world.workspace, world.challenger)
        operator.tick(day(0))
    assert world.tables == [TrafficTable.champion("tumours", "1.0.1")]


def test_traffic_stays_where_a_champion_cannot_be_served(world: World) -> None:
    # The table named what no replica could load: one that was started later did not come up, and
    # no later look said anything.
    deployed(world)
    publish = world.tables.append

    def refuse(table: TrafficTable) -> None:
        publish(table)
        if table.versions == ("1.0.1",):
            raise UnservableError("table 2 of tumours is refused: IntegrityError")

    with world.operator() as operator:
        operator._publish_unfenced = refuse
        point(world.workspace, world.challenger)
        for _ in range(2):
            with pytest.raises(UnservableError):
                operator.tick(day(0))
            assert published(world) == TrafficTable.champion("tumours", "1.0.0")
        operator._publish_unfenced = publish
        operator.tick(day(0))
        assert published(world) == TrafficTable.champion("tumours", "1.0.1")


def test_one_operator_watches_a_model(world: World) -> None:
    with world.operator(), pytest.raises(CoordinationError, match="is held by process"):
        world.operator().__enter__()


def test_an_operator_that_another_replaced_writes_and_publishes_nothing(world: World) -> None:
    ledger = world.workspace.ledger
    releases = ledger.releases
    releases.publish("tumours", TrafficTable.champion("tumours", "1.0.0").to_dict())
    with world.operator() as stale:
        assert stale._lease is not None
        newer = Fence(name=stale._lease.name, token=stale._lease.token + 1)
        with ledger.fenced(newer):  # its lock was lost while it slept
            point(world.workspace, world.challenger)
        before = ledger.decisions.list()
        with pytest.raises(StaleLeaseError, match="of the lock 'operator-tumours'"):
            stale.tick(day(7))
        assert ledger.decisions.list() == before
        assert world.tables == []


def test_the_schema_comes_from_the_settings(
    workspace: Workspace, tumour_schema: TableSchema
) -> None:
    assert [f.name for f in workspace.schema.features] == [f.name for f in tumour_schema.features]


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


def released(world: World, operator: Operator) -> Release:
    return operator._controller.start(world.challenger, now=day(0), who="ann", why="by hand")


def test_a_champion_moved_during_a_release_ends_it(world: World) -> None:
    ledger = world.workspace.ledger
    third = ledger.registry.register(
        "tumours",
        bundle=world.challenger.bundle,
        signature=ledger.text(world.challenger.signature_digest),
        run_id=world.challenger.run_id,
    )
    with world.operator() as operator:
        release = released(world, operator)
        point(world.workspace, third)
        operator.tick(day(1))
    assert world.tables[-1] == TrafficTable.champion("tumours", str(third.version))
    assert ledger.releases.get(release.id).status == "rolled_back"
    assert ledger.registry.alias("tumours", "champion") == third.version
    decision = ledger.decisions.list(model="tumours")[-1]
    assert decision.why.startswith("the champion is 1.0.2 now, and no longer 1.0.0")


def test_a_promotion_that_was_cut_off_is_ended_not_judged_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = world.workspace.ledger
    with world.operator() as operator:
        release = released(world, operator)
        point(world.workspace, world.challenger)  # as far as it came
    with world.operator() as operator:
        seen(world, "1.0.1", arm="canary", failed=20, answered=0, on=day(0))
        operator.tick(day(1))
    assert ledger.releases.get(release.id).status == "promoted"
    assert ledger.registry.alias("tumours", "champion") == world.challenger.version
    assert world.tables[-1] == TrafficTable.champion("tumours", "1.0.1")


def test_a_canary_is_held_against_the_champions_arm_alone(world: World) -> None:
    with world.operator() as operator:
        release = released(world, operator)
        seen(world, "1.0.0", arm="champion", failed=1, answered=99, on=day(0))
        seen(world, "1.0.0", arm="pinned", failed=50, answered=0, on=day(0))
        seen(world, "1.0.1", arm="canary", failed=2, answered=8, on=day(0))
        seen(world, "1.0.0", arm="canary", failed=40, answered=60, on=day(0))  # an earlier release
        evidence = operator._controller.evidence(release, since=day(0), now=day(1))
    assert (evidence.champion_failed, evidence.champion_requests) == (1, 99)
    assert (evidence.canary_failed, evidence.canary_requests) == (2, 8)


@pytest.mark.parametrize(
    ("error", "why"),
    [
        (None, "no labelled rows from 2024-01-01 to 2024-01-08 to compare them on"),
        (ZeroDivisionError("in the user's loss"), "in the user's loss"),
    ],
)
def test_what_cannot_be_judged_is_refused_and_not_trained_for_again(
    world: World, error: Exception | None, why: str
) -> None:
    def make(known_at: datetime) -> Challenger:
        world.trainings.append(known_at)
        if error is not None:
            raise error
        return Challenger(
            version=world.challenger, holdout=world.table.slice(0, 0), start=START, end=day(7)
        )

    world.make_challenger = make  # type: ignore[method-assign]
    with world.operator() as operator:
        play(world, operator, 0, 7)
        operator.wait_for_training(30.0)
        operator.tick(day(7.1))
    with world.operator() as operator:
        operator.tick(day(7.2))
    (gate,) = world.workspace.ledger.decisions.list(model="tumours", kind="gate")
    assert gate.outcome == "refused"
    assert gate.why == f"no challenger could be made and judged: {why}"
    assert len(world.trainings) == 1


def published(world: World) -> TrafficTable:
    found = world.workspace.ledger.releases.published("tumours")
    assert found is not None
    return TrafficTable.from_dict(found[1])


def test_traffic_goes_back_with_the_champion(world: World) -> None:
    ledger, workspace = world.workspace.ledger, world.workspace
    point(workspace, world.challenger)
    rollback(workspace, "tumours", who="ann", why="it is slow")
    assert ledger.releases.published("tumours") is None  # nothing serves it
    point(workspace, world.challenger)
    ledger.releases.publish("tumours", TrafficTable.champion("tumours", "1.0.1").to_dict())
    rollback(workspace, "tumours", who="ann", why="it is slow")
    assert published(world) == TrafficTable.champion("tumours", "1.0.0")


def test_a_person_ends_a_release_and_traffic_goes_back(world: World) -> None:
    ledger = world.workspace.ledger
    with world.operator() as operator:
        release = released(world, operator)
        ledger.releases.publish("tumours", world.tables[-1].to_dict())
        assert len(world.tables[-1].arms) == 2
        ended = end_release(world.workspace, "tumours", who="ann", why="it is slow")
        assert ended is not None
        assert (ended.id, ended.status) == (release.id, "rolled_back")
        # It said so, and nothing but an operator's next tick took the canary's requests away.
        assert published(world) == TrafficTable.champion("tumours", "1.0.0")
        assert end_release(world.workspace, "tumours", who="ann", why="again") is None
    decision = ledger.decisions.list(model="tumours")[-1]
    assert (decision.outcome, decision.who, decision.why) == (
        "1.0.1 rolled back", "ann", "it is slow",
    )  # fmt: skip
    with pytest.raises(ConflictError, match=r"release 1 of tumours 1\.0\.1 is rolled back already"):
        ledger.releases.advance(
            release.id, release.state, "running", outcome="canary 50%", who="bob", why="late"
        )


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


def test_rolling_back_again_goes_further_back_and_never_to_what_was_rolled_back(
    world: World,
) -> None:
    # A second `rollback`, by another person or since the first seemed to fail, gave the traffic
    # back to the version that was just found bad.
    workspace = world.workspace
    third = third_version(world)
    for version in (world.challenger, third):
        point(workspace, version)
    for expected in ("1.0.1", "1.0.0"):
        rollback(workspace, "tumours", who="ann", why="it is slow")
        assert champion(world) == expected
    with pytest.raises(ReleaseError, match=r"tumours 1\.0\.0 has no champion before it"):
        rollback(workspace, "tumours", who="ann", why="it is slow")
    point(workspace, third)
    rollback(workspace, "tumours", who="ann", why="it is slow")
    assert champion(world) == "1.0.0"


def test_of_two_who_roll_back_at_once_one_is_told_of_the_other(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace, look = world.workspace, releasing._champion_before
    for version in (world.challenger, third_version(world)):
        point(workspace, version)

    def look_and_wait(*about: Any) -> object:
        found = look(*about)
        with monkeypatch.context() as patch:
            patch.setattr(releasing, "_champion_before", look)
            rollback(workspace, "tumours", who="bob", why="it is slow")
        return found

    monkeypatch.setattr(releasing, "_champion_before", look_and_wait)
    with pytest.raises(ConflictError, match=r"champion is 1\.0\.1 by now, .*, and was 1\.0\.2"):
        rollback(workspace, "tumours", who="ann", why="it is slow")
    assert champion(world) == "1.0.1"


@pytest.mark.parametrize("running", [True, False])
def test_a_way_back_that_is_cut_off_has_not_begun(
    world: World, running: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The alias had moved, or the release ended, and the traffic had not: asked again, `rollback`
    # took the champion before that one.
    workspace, ledger = world.workspace, world.workspace.ledger
    if running:
        with world.operator() as operator:
            released(world, operator)
        ledger.releases.publish("tumours", world.tables[-1].to_dict())
    else:
        point(workspace, world.challenger)
        ledger.releases.publish("tumours", TrafficTable.champion("tumours", "1.0.1").to_dict())
    before, decided = published(world), ledger.decisions.list()
    back = end_release if running else rollback
    with monkeypatch.context() as patch:
        patch.setattr(tables, "publish", killed)
        with pytest.raises(KeyboardInterrupt):
            back(workspace, "tumours", who="ann", why="it is slow")
    assert (published(world), ledger.decisions.list()) == (before, decided)
    back(workspace, "tumours", who="ann", why="it is slow")
    assert published(world) == TrafficTable.champion("tumours", "1.0.0")
    assert champion(world) == "1.0.0"


def test_a_release_that_a_person_ends_while_it_is_judged_promotes_nothing(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The champion was moved first, and only then it was seen that the release had ended.
    look = ReleaseController.evidence

    def evidence(self: ReleaseController, *about: Any, **when: Any) -> Evidence:
        found = look(self, *about, **when)
        assert end_release(world.workspace, "tumours", who="ann", why="it is slow")
        return replace(found, canary_rows=100, champion_rows=100, low=-0.1, high=0.1)

    with world.operator() as operator:
        release = released(world, operator)
        state = release.state | {"step": 1}
        world.workspace.ledger.releases.advance(
            release.id, state, "running", outcome="canary 60%", who="test", why="on"
        )
        monkeypatch.setattr(ReleaseController, "evidence", evidence)
        with pytest.raises(ConflictError, match="is rolled back already"):
            operator.tick(day(4))
    assert champion(world) == "1.0.0"


def test_a_champion_that_a_person_chose_while_a_release_was_judged_stays(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    look, third = ReleaseController.evidence, third_version(world)

    def evidence(self: ReleaseController, *about: Any, **when: Any) -> Evidence:
        found = look(self, *about, **when)
        point(world.workspace, third)
        return replace(found, canary_rows=100, champion_rows=100, low=-0.1, high=0.1)

    with world.operator() as operator:
        release = released(world, operator)
        state = release.state | {"step": 1}
        world.workspace.ledger.releases.advance(
            release.id, state, "running", outcome="canary 60%", who="test", why="on"
        )
        with monkeypatch.context() as patch:
            patch.setattr(ReleaseController, "evidence", evidence)
            with pytest.raises(ConflictError, match=r"champion is 1\.0\.2 by now"):
                operator.tick(day(4))
        operator.tick(day(4))
    assert champion(world) == "1.0.2"
    assert world.workspace.ledger.releases.get(release.id).status == "rolled_back"


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


def test_a_step_that_could_not_be_published_is_by_the_next_look(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The canary got no traffic until it was rolled back, `max_days` later, for want of rows.
    deployed(world)
    with world.operator() as operator:
        with monkeypatch.context() as patch:
            patch.setattr(operator._controller, "_publish", away)
            with pytest.raises(LedgerError):
                released(world, operator)
        assert operator.tick(day(1)) == ()
        assert [(arm.version, arm.share) for arm in published(world).arms] == [
            ("1.0.0", 0.7), ("1.0.1", 0.3),
        ]  # fmt: skip
        assert len(world.tables) == 2
        operator.tick(day(1))
        assert len(world.tables) == 2


def test_a_release_goes_on_by_what_it_began_with(
    world: World, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    # With fewer shares in the settings no operator could be started any more: IndexError.
    with world.operator() as operator:
        release = released(world, operator)
        world.workspace.ledger.releases.advance(
            release.id, release.state | {"step": 1}, "running", outcome="60%", who="a", why="on"
        )
    changed = [f"home={world.workspace.home}", "release.shares=[0.5]"]
    with Workspace.open(tmp_path / "tumours.yaml", overrides=changed) as world.workspace:
        with world.operator() as operator:
            assert operator.tick(day(1)) == ()
        assert [arm.share for arm in world.tables[-1].arms] == [0.4, 0.6]
        assert (
            "release 1 of tumours 1.0.1 goes on by what it began with (shares [0.3, 0.6], not "
            "[0.5]), and not by the settings of now"
        ) in caplog.text


def gate_of(world: World, who: str) -> None:
    world.workspace.ledger.decisions.add(
        model="tumours", kind="gate", outcome="1.0.1 passed", who=who, why="better", evidence={}
    )


def test_what_a_person_held_against_the_champion_is_released_by_nobody(world: World) -> None:
    # `jobs/retrain.py` without --release: a `watch` beside it released the challenger.
    gate_of(world, "jobs/retrain.py")
    with world.operator() as operator:
        assert operator.tick(day(1)) == ()
    gate_of(world, "raymlops operator")
    with world.operator() as operator:
        assert operator.tick(day(1))[0].outcome == "1.0.1 canary 30%"


def test_a_gate_of_a_person_answers_no_trigger(world: World) -> None:
    with world.operator() as operator:
        assert play(world, operator, 0, 7) == ["trigger: retrain"]
    gate_of(world, "jobs/retrain.py")
    with world.operator() as operator:
        assert play(world, operator, 7, 8)[0] == "gate: 1.0.1 passed"
    assert world.trainings == [day(7), day(7)]


def test_a_trigger_is_answered_though_a_person_began_a_release(world: World) -> None:
    # An operator that found both went on with the release, and forgot the trigger.
    with world.operator() as operator:
        assert play(world, operator, 0, 7) == ["trigger: retrain"]
        released(world, operator)
    with world.operator() as operator:
        operator.wait_for_training(30)
    assert world.trainings == [day(7), day(7)]


@pytest.mark.parametrize("where", ["the verdict", "its record"])
def test_a_challenger_waits_for_its_gate_while_the_ledger_is_away(
    world: World, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # It was refused for that, or trained in vain: nobody gated it until another operator came.
    with world.operator() as operator:
        assert play(world, operator, 0, 7) == ["trigger: retrain"]
        operator.wait_for_training(30)
        with monkeypatch.context() as patch:
            if where == "the verdict":
                patch.setattr("raymlops.operate.operator.judge_challenger", away)
            else:
                patch.setattr(operator, "_decide", away)
            with pytest.raises(LedgerError):
                operator.tick(day(7))
        assert play(world, operator, 7, 8)[0] == "gate: 1.0.1 passed"
    assert world.trainings == [day(7)]


def test_the_longest_name_there_may_be_can_be_watched(tmp_path: Path) -> None:
    # A longer one could be trained and deployed, and its operator not be made: ValueError.
    def overrides(length: int) -> list[str]:
        return [f"home={tmp_path / 'home'}", f"model={'m' * length}"]

    with (
        Workspace.open(overrides=overrides(180)) as workspace,
        workspace.coordinator.hold(f"operator-{workspace.model}") as lease,
    ):
        assert lease.name == f"operator-{'m' * 180}"
    with pytest.raises(ConfigError, match=r"model 'm{20}\.\.\.' has 181 characters"):
        Workspace.open(overrides=overrides(181))
