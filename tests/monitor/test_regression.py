"""A model that says numbers: by how many minutes each flight of 2013 arrived late."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LinearRegression
from sklearn.metrics import mean_absolute_error, r2_score, root_mean_squared_error

from raymlops.data import Feature, Profile, TableSchema
from raymlops.data.slices import cells_of
from raymlops.ledger import (
    Labels,
    Ledger,
    PackedPredictions,
    Pane,
    Prediction,
    number_labels,
)
from raymlops.models import Bundle, Postprocessing, Preprocessing, Signature
from raymlops.monitor import (
    ALL,
    DriftMonitor,
    DriftPolicy,
    WindowPolicy,
    WindowReport,
    write_report,
)
from raymlops.serve.tap import TapSummary
from raymlops.serve.tap.latency import NUM_BUCKETS
from raymlops.storage import Store
from tests.runs import start_training

FEATURES = (
    Feature(name="dep_delay", kind="number"),
    Feature(name="distance", kind="number"),
    Feature(name="origin", kind="category"),
)
SAYS = Postprocessing(label="arr_delay", reads="number")


def test_what_a_regression_says_is_the_answer() -> None:
    said = SAYS.apply(np.array([-3.5, 12.0]))
    assert {name: values.tolist() for name, values in said.items()} == {"arr_delay": [-3.5, 12.0]}
    assert [(field.name, field.datatype) for field in SAYS.outputs] == [("arr_delay", "FP32")]
    assert Postprocessing.from_dict(SAYS.to_dict()) == SAYS


@pytest.fixture(scope="module")
def delays(flights: pd.DataFrame, tmp_path_factory: pytest.TempPathFactory) -> Delays:
    return Delays(flights[flights["month"] == 1], tmp_path_factory.mktemp("delays"))


class Delays:
    """January, answered a request a day by a model of its first week, and judged."""

    def __init__(self, january: pd.DataFrame, folder: Path) -> None:
        self.ledger = Ledger(f"sqlite:///{folder}/ledger.db")
        store = Store(str(folder / "store"))
        week = january[january["day"] <= 7]
        preprocessing = Preprocessing.fit(FEATURES, _columns(week))
        fitted = LinearRegression().fit(
            preprocessing.transform(_columns(week)), week["arr_delay"].to_numpy()
        )
        self.table = january.assign(
            said=fitted.predict(preprocessing.transform(_columns(january))).astype(np.float32)
        )
        told = self.table.loc[week.index, "said"].to_numpy()
        schema = TableSchema(
            dataset="delays", target="arr_delay", event_time="time", features=FEATURES
        )
        self.bundle = Bundle.of(
            signature=Signature.of(schema, SAYS.outputs),
            preprocessing=preprocessing,
            model=b"",  # the monitor reads profiles, it predicts nothing
            postprocessing=SAYS,
            profile=Profile.of_numbers(
                FEATURES,
                _columns(week),
                told,
                label_mean=week["arr_delay"].mean(),
                errors=told - week["arr_delay"].to_numpy(),
            ),
        )
        _register(self.ledger, self.bundle.save(store))
        monitor = DriftMonitor(
            self.ledger.url, store.uri, WindowPolicy(), DriftPolicy(), slice_by=("origin",)
        )
        monitor.observe(self._summary().to_bytes())
        assert monitor.label(self._labels()) == 31
        assert monitor.watch("delays") == ()
        self.report: WindowReport
        (self.report,) = monitor.advance("delays", datetime(2013, 2, 1, tzinfo=UTC))

    def _summary(self) -> TapSummary:
        panes, predictions = [], []
        for day, rows in self.table.groupby("day"):
            said, time = rows["said"].to_numpy(), datetime(2013, 1, day, 12, tzinfo=UTC)
            predictions.append(
                Prediction(
                    request_id=f"d-{day}",
                    model="delays",
                    version="1.0.0",
                    arm="champion",
                    scores=said.astype("<f4").tobytes(),
                    num_rows=len(rows),
                    served_at=time,
                    event_time=time,
                    replica="r",
                    slices=cells_of(self.bundle.profile, ("origin",), _columns(rows))
                    .astype("<u2")
                    .tobytes(),
                )
            )
            panes.append(
                Pane(
                    model="delays",
                    version="1.0.0",
                    arm="champion",
                    day=time.date(),
                    num_rows=len(rows),
                    num_failed=0,
                    cells=self.bundle.profile.count(_columns(rows), said),
                    latency=(1,) + (0,) * (NUM_BUCKETS - 1),
                )
            )
        return TapSummary(
            model="delays",
            replica="r",
            sequence=0,
            panes=tuple(panes),
            predictions=PackedPredictions.of(predictions),
        )

    def _labels(self) -> list[Labels]:
        return [
            Labels(
                request_id=f"d-{day}",
                model="delays",
                labels=number_labels(rows["arr_delay"].to_numpy()),
                at=datetime(2013, 1, day, 20, tzinfo=UTC),
            )
            for day, rows in self.table.groupby("day")
        ]


def test_a_window_of_numbers_is_measured_as_scikit_learn_does(delays: Delays) -> None:
    said, came = delays.table["said"], delays.table["arr_delay"]
    found = {row.metric: row for row in delays.report.performance if row.version == "1.0.0"}
    assert found.keys() == {
        "mae", "rmse", "baseline_rmse", "rmse_over_baseline", "r2", "bias", "scored_share",
        "capped_rmse", "capped_rmse_over_baseline", "error_cap", "wild_labels",
        "absurd_predictions",
    }  # fmt: skip
    assert found["mae"].value == pytest.approx(mean_absolute_error(came, said), rel=1e-5)
    assert found["rmse"].value == pytest.approx(root_mean_squared_error(came, said), rel=1e-5)
    assert found["r2"].value == pytest.approx(r2_score(came, said), rel=1e-5)
    assert found["bias"].value == pytest.approx((said - came).mean(), rel=1e-4)
    # A constant is that of the training, the first week's mean.
    constant = np.full(len(came), came[delays.table["day"] <= 7].mean())
    assert found["baseline_rmse"].value == pytest.approx(
        root_mean_squared_error(came, constant), rel=1e-6
    )
    assert found.pop("scored_share").value == 1.0
    cap = found.pop("error_cap").value
    assert found["capped_rmse"].value == pytest.approx(
        root_mean_squared_error(came, np.clip(said, came - cap, came + cap)), rel=1e-6
    )
    wild = np.count_nonzero(np.abs(said - came) > cap) / len(came)
    assert 0.0 < wild < 0.001
    assert found.pop("wild_labels").value == pytest.approx(wild)
    assert found.pop("absurd_predictions").value == 0.0
    assert all(row.low < row.value < row.high for row in found.values())
    assert found["mae"].num_rows == len(delays.table)


def test_numbers_are_measured_by_slice_and_told_in_the_report(
    delays: Delays, tmp_path: Path
) -> None:
    slices = {
        row.part: row for row in delays.ledger.observations.slices("delays") if row.metric == "rmse"
    }
    for origin, rows in delays.table.groupby("origin"):
        wanted = root_mean_squared_error(rows["arr_delay"], rows["said"])
        assert slices[origin].value == pytest.approx(wanted, rel=1e-5)
    page = write_report(delays.ledger, "delays", tmp_path / "delays.html").read_text("utf-8")
    assert "RMSE, last window" in page
    (wild,) = (
        round(row.value * row.num_rows)
        for row in delays.report.performance
        if (row.metric, row.version) == ("wild_labels", ALL)
    )
    assert re.search(rf"Wild labels, last window</dt>\s*<dd>{wild}<small>of 26,398; ", page)
    assert wild > 0
    assert "constant guess" in page
    assert "Bias, predicted less actual" in page
    worst = max(slices.values(), key=lambda row: row.low)
    assert f"origin {worst.part}" in page


def test_labels_of_another_size_are_a_misfit(delays: Delays) -> None:
    before = delays.ledger.observations.join_counts("delays").get("misfit", 0)
    summary = delays._summary()
    one = PackedPredictions.of(
        [
            Prediction(
                request_id="odd",
                model="delays",
                version="1.0.0",
                arm="champion",
                scores=bytes(12),
                num_rows=3,
                served_at=datetime(2013, 3, 1, tzinfo=UTC),
                event_time=datetime(2013, 3, 1, tzinfo=UTC),
                replica="s",
            )
        ]
    )
    delays.ledger.observations.add_tap("s", 0, summary.panes[:0], one)
    numbers = number_labels(np.zeros(2))
    for labels in (bytes(8), bytes(12), numbers, numbers + b"0"):  # 12 classes are not 3 numbers
        odd = Labels(
            request_id="odd", model="delays", labels=labels, at=datetime(2013, 3, 1, tzinfo=UTC)
        )
        assert delays.ledger.observations.add_labels([odd]) == 0
    assert delays.ledger.observations.join_counts("delays")["misfit"] == before + 4


def _columns(table: pd.DataFrame) -> dict[str, np.ndarray]:
    return {
        feature.name: table[feature.name].to_numpy(
            dtype=np.float64 if feature.kind == "number" else object
        )
        for feature in FEATURES
    }


def _register(ledger: Ledger, digest: str) -> None:
    run = start_training(ledger, "delays")
    ledger.registry.register("delays", bundle=digest, signature="{}", run_id=run.id)
