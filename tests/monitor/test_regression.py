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
from raymlops.ledger import (
    Labels,
    Ledger,
    PackedPredictions,
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
from raymlops.monitor.report.figures import performance_figure
from raymlops.monitor.report.slices import worst_slices
from raymlops.storage import Store
from tests.monitor.answering import Request, labels, summary
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
        requests = self.requests()
        told = summary("delays", self.bundle, requests, slice_by=("origin",))
        monitor.observe(told.to_bytes())
        known = datetime(2013, 1, 31, 20, tzinfo=UTC)
        assert monitor.label(labels("delays", requests, at=known)) == 31
        assert monitor.watch("delays") == ()
        self.report: WindowReport
        (self.report,) = monitor.advance("delays", datetime(2013, 2, 1, tzinfo=UTC))

    def requests(self) -> list[Request]:
        return [
            Request(
                id=f"d-{day}",
                time=datetime(2013, 1, day, 12, tzinfo=UTC),
                columns=_columns(rows),
                said=rows["said"].to_numpy(),
                came=rows["arr_delay"].to_numpy(),
            )
            for day, rows in self.table.groupby("day")
        ]


def test_a_window_of_numbers_is_measured_as_scikit_learn_does(delays: Delays) -> None:
    said, came = delays.table["said"], delays.table["arr_delay"]
    found = {row.metric: row for row in delays.report.performance if row.version == "1.0.0"}
    assert found.keys() == {
        "mae", "rmse", "baseline_rmse", "rmse_over_baseline", "r2", "bias", "scored_share",
        "capped_rmse", "baseline_capped_rmse", "capped_rmse_over_baseline", "error_cap",
        "wild_labels", "absurd_predictions",
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
    assert found["baseline_capped_rmse"].value == pytest.approx(
        root_mean_squared_error(came, np.clip(constant, came - cap, came + cap)), rel=1e-6
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
    assert "RMSE, wild errors capped, lower is better" in page
    (worst, *_) = worst_slices(delays.ledger, "delays", delays.report)
    assert worst.metric == "capped_rmse"
    assert f"origin {worst.part}" in page


def test_a_wild_label_owns_neither_the_worst_slice_nor_the_curve(
    delays: Delays, flights: pd.DataFrame, tmp_path: Path
) -> None:
    """The slice that it fell into was the worst, and all others lay on the axis."""
    (before, *_) = worst_slices(delays.ledger, "delays", delays.report)
    january = flights[flights["month"] == 1].copy()
    others = january.index[(january["day"] > 7) & (january["origin"] != before.part)]
    january.loc[others[0], "arr_delay"] = 1e9
    broken = Delays(january, tmp_path)
    (after, *_) = worst_slices(broken.ledger, "delays", broken.report)
    assert (after.part, after.value) == (before.part, pytest.approx(before.value))
    figure = performance_figure([broken.report], {}, ())
    assert figure is not None
    assert "capped" in figure.svg
    assert "000,000" not in figure.svg
    assert "e+" not in figure.svg


def test_labels_of_another_size_are_a_misfit(delays: Delays) -> None:
    before = delays.ledger.observations.join_counts("delays").get("misfit", 0)
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
    delays.ledger.observations.add_tap("s", 0, (), one)
    numbers = number_labels(np.zeros(2))
    for told in (bytes(8), bytes(12), numbers, numbers + b"0"):  # 12 classes are not 3 numbers
        odd = Labels(
            request_id="odd", model="delays", labels=told, at=datetime(2013, 3, 1, tzinfo=UTC)
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
