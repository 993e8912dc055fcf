"""The life of a model, from its first rows to its successor, on the flights of 2013."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from raymlops import operate
from raymlops.cluster import Session, up
from raymlops.data import between, read_columns, take
from raymlops.demo.epochs import EpochFollower
from raymlops.demo.flights import load_flights
from raymlops.demo.life import Life
from raymlops.demo.narrator import Narrator
from raymlops.demo.replay import calls_by_day
from raymlops.demo.traffic import Tally, Traffic
from raymlops.errors import ExpectationError, RaymlopsError, RequestError
from raymlops.ledger import Dataset, at, why
from raymlops.ledger.describe import lineage_lines, reign_lines
from raymlops.monitor import write_report
from raymlops.operate import Workspace, watch
from raymlops.operate.settings import packaged_config
from raymlops.serve import Client, Deployment

if TYPE_CHECKING:
    from raymlops.train.tabular.training import Training

WHO = "raymlops demo"

# Two training workers and a replica share whatever cores there are.
_NUM_CPUS = 4


@dataclass(frozen=True, kw_only=True)
class DemoPlan:
    """The first model learns from [start, train_until), traffic is [live_from, live_until)."""

    start: datetime = datetime(2013, 1, 1, tzinfo=UTC)
    train_until: datetime = datetime(2013, 4, 1, tzinfo=UTC)
    live_from: datetime = datetime(2013, 4, 1, tzinfo=UTC)
    live_until: datetime = datetime(2014, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, kw_only=True)
class DemoResult:
    """What the demo leaves behind, and what its client counted."""

    home: Path
    report: Path
    tally: Tally
    dashboard_url: str | None
    url: str


def run_demo(narrator: Narrator, *, home: Path, plan: DemoPlan, keep: bool) -> DemoResult:
    """Plays the whole lifecycle in `home`; with `keep` the cluster and the model stay up."""
    with ExitStack() as stack:
        overrides = [f"home={home}", "serve.port=0"]
        if keep:
            up(None, home=home, num_cpus=_NUM_CPUS)
            overrides.append("cluster.address=auto")
        else:
            overrides += ["cluster.address=local", f"cluster.num_cpus={_NUM_CPUS}"]
        config = packaged_config("flights.yaml")
        workspace = stack.enter_context(
            Workspace.open(config, environment="development", overrides=overrides)
        )
        session = stack.enter_context(workspace.connect())
        return _Story(narrator, workspace, plan).tell(session)


class _Story:
    def __init__(self, narrator: Narrator, workspace: Workspace, plan: DemoPlan) -> None:
        self._narrator = narrator
        self._workspace = workspace
        self._plan = plan
        self._model = workspace.model

    def tell(self, session: Session) -> DemoResult:
        flights = load_flights()
        dataset = self._add_data(flights)
        training = self._train(dataset)
        self._register(training)
        deployment = self._serve(flights)
        tally = self._live(deployment, flights)
        report = self._look_back(tally)
        return DemoResult(
            home=self._workspace.home,
            report=report,
            tally=tally,
            dashboard_url=session.dashboard_url,
            url=deployment.url,
        )

    def _add_data(self, flights: pa.Table) -> Dataset:
        self._narrator.act(1, "Data: the flights of January to March, checked")
        schema, plan = self._workspace.schema, self._plan
        past = between(flights, schema.event_time, plan.start, plan.train_until)
        try:
            operate.add_data(self._workspace, _broken(past))
        except ExpectationError as error:
            self._narrator.say("A file that went wrong on its way:")
            self._narrator.say(str(error).replace("\n", "\n  "))
        else:
            raise RaymlopsError("a broken file was taken for a good one")
        dataset = operate.add_data(
            self._workspace, past, description=f"all rows before {plan.train_until:%Y-%m-%d}"
        )
        self._narrator.say(
            f"{dataset.name} version {dataset.version}: {dataset.num_rows:,} rows, "
            f"{len(dataset.fields)} columns, {dataset.size_bytes / 1e6:.1f} MB of Parquet, "
            f"digest {dataset.digest[:12]}"
        )
        return dataset

    def _train(self, dataset: Dataset) -> Training:
        workers = self._workspace.settings.plan.num_workers
        self._narrator.act(2, f"Train: a network on {workers} Ray Train workers")
        with EpochFollower(self._workspace.ledger_url, self._model, self._narrator.say):
            training = operate.train(self._workspace, dataset)
        self._narrator.qualities(training.qualities)
        self._narrator.say(
            f"on the newest {self._workspace.settings.train.validation_share:.0%} of the rows, "
            f"which nothing was fitted on; run {training.run.id}"
        )
        return training

    def _register(self, training: Training) -> None:
        self._narrator.act(3, "Register: ONNX, its numbers compared, in a bundle with a version")
        version = operate.register(self._workspace, training)
        operate.promote(self._workspace, version, who=WHO, why="the first version")
        self._narrator.say(f"{version} is the champion")
        self._narrator.lines(lineage_lines(why(self._workspace.ledger, f"{self._model}@champion")))

    def _serve(self, flights: pa.Table) -> Deployment:
        self._narrator.act(4, "Serve: Open Inference Protocol on Ray Serve, dynamic batching")
        deployment = operate.deploy(self._workspace, f"{self._model}@champion")
        self._narrator.say(f"POST {deployment.url}/v2/models/{self._model}/infer")
        schema = self._workspace.schema
        first = take(read_columns(flights.slice(0, 2), schema.features), slice(0, 2))
        with Client(deployment.url) as client:
            answer = client.infer(self._model, first, event_time=self._plan.live_from)
            late = ", ".join(f"{value:.3f}" for value in answer.outputs["probability"])
            self._narrator.say(f"two departures: probability of being late {late}")
            for broken in (
                {**first, "humid": [55.0, 155.0]},
                {name: column for name, column in first.items() if name != "carrier"},
            ):
                try:
                    client.infer(self._model, broken)
                except RequestError as error:
                    self._narrator.say(f"refused with {error.status}: {error.message}")
                else:
                    raise RaymlopsError("a broken request was answered")
        return deployment

    def _live(self, deployment: Deployment, flights: pa.Table) -> Tally:
        plan, schema = self._plan, self._workspace.schema
        days = (plan.live_until - plan.live_from).days
        self._narrator.act(
            5, f"Live: {days} days of traffic, labels a day later; 6. Close the loop: by itself"
        )
        monitor = operate.start_monitor(self._workspace, self._model)
        delay = self._workspace.settings.monitor.windows.label_delay

        def known_at(now: datetime) -> pa.Table:
            return between(flights, schema.event_time, plan.start, now - delay)

        with (
            Traffic(deployment.url, self._model, monitor, label_delay=delay) as traffic,
            watch(self._workspace, known_at) as operator,
            self._narrator.progress() as progress,
        ):
            task = progress.add_task("", total=days)
            life = Life(self._narrator, self._workspace, traffic, operator, num_before=1)
            calls = calls_by_day(flights, schema, start=plan.live_from, end=plan.live_until)
            for day, of_day in calls:
                life.live(day, of_day)
                progress.update(task, advance=1, description=_standing(day, traffic.tally))
            life.finish(plan.live_until + delay)
            return traffic.tally

    def _look_back(self, tally: Tally) -> Path:
        self._narrator.act(7, "Look back: why, and who was champion when")
        ledger = self._workspace.ledger
        arm = "canary" if "canary" in tally.last_request else "champion"
        request_id = tally.last_request[arm]
        self._narrator.say(f"raymlops why {request_id}")
        self._narrator.lines(lineage_lines(why(ledger, request_id)))
        for date in ("2013-06-15", "2013-10-15"):
            time_ = datetime.fromisoformat(f"{date}T00:00:00+00:00")
            if time_ >= self._plan.live_until:
                continue
            self._narrator.say(f"raymlops at {self._model} --event-time {date}")
            self._narrator.lines(reign_lines(at(ledger, self._model, time_, event_time=True)))
        return write_report(ledger, self._model, self._workspace.home / "report.html")


def _standing(day: datetime, tally: Tally) -> str:
    return f"{day:%Y-%m-%d}  {tally.num_sent:,} requests, {len(tally.failures)} failed"


def _broken(table: pa.Table) -> pa.Table:
    """The table as a sensor fault and a lossy copy would leave it."""
    humid = pc.if_else(
        pc.equal(table["origin"], "JFK"), pc.multiply(table["humid"], 10), table["humid"]
    )
    every_tenth = pa.array(np.arange(table.num_rows) % 10 == 0)
    distance = pc.if_else(every_tenth, None, table["distance"])
    for name, column in (("humid", humid), ("distance", distance)):
        table = table.set_column(table.column_names.index(name), name, column)
    return table
