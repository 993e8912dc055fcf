"""A model of three classes in service: which iris was it, and what did it take it for?"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.metrics import accuracy_score, confusion_matrix, f1_score, log_loss

from raymlops.data import Class, take
from raymlops.data.slices import cells_of
from raymlops.ledger import (
    Labels,
    Ledger,
    Outcomes,
    PackedPredictions,
    Pane,
    Prediction,
    class_labels,
    number_labels,
)
from raymlops.models import Bundle, Postprocessing, format_named
from raymlops.monitor import (
    ConceptPolicy,
    DriftMonitor,
    DriftPolicy,
    WindowPolicy,
    WindowReport,
    difference,
    write_report,
)
from raymlops.monitor.expected import GAP
from raymlops.monitor.performance import Known, measure_classes, measure_each_class
from raymlops.operate.own_models import bundle_of
from raymlops.serve.tap import TapSummary
from raymlops.serve.tap.latency import NUM_BUCKETS
from raymlops.storage import Store
from tests import irises
from tests.monitor.months import outcome
from tests.serve.conftest import register

MODEL = "irises"
ROWS_A_DAY = 5
NUM_DAYS = 15
ORDER = np.random.default_rng(0).permutation(75)  # each day has irises of several kinds
CAME = np.array(irises.SPECIES)[irises.TARGET[irises.UNSEEN]][ORDER]
SAID = irises.probabilities(0.01)[ORDER]


def day(number: int) -> datetime:
    return datetime(2024, 5, 1 + number, 12, tzinfo=UTC)


def rows(number: int) -> slice:
    return slice(ROWS_A_DAY * number, ROWS_A_DAY * (number + 1))


class Garden:
    """A month in which a model answers a request a day, and is told what came true."""

    def __init__(self, folder: Path) -> None:
        self.ledger = Ledger(f"sqlite:///{folder}/ledger.db")
        self.store = Store(str(folder / "store"))
        self.bundle = irises.bundle(inverse_penalty=0.01)  # one that is often wrong
        register(self.ledger, self.store, MODEL, self.bundle)
        self.monitor = DriftMonitor(
            self.ledger.url,
            self.store.uri,
            WindowPolicy(),
            DriftPolicy(min_rows=50),
            ConceptPolicy(parameters={"labels_per_false_alarm": 100}),
            slice_by=("petal_length",),
        )

    def serve(
        self,
        bundle: Bundle,
        version: str,
        *,
        replica: str = "r",
        arm: str = "champion",
        registered: Bundle | None = None,
    ) -> None:
        """`bundle` answers as `version`, under which another may be `registered`."""
        profile, columns = (registered or bundle).profile, take(irises.columns(), ORDER)
        said = [bundle.predict(take(columns, rows(number))) for number in range(NUM_DAYS)]
        scores = [each[bundle.postprocessing.score] for each in said]
        predictions = [
            Prediction(
                request_id=f"{replica}-{number}",
                model=MODEL,
                version=version,
                arm=arm,
                scores=each.astype("<f4").tobytes(),
                num_rows=ROWS_A_DAY,
                served_at=day(number),
                event_time=day(number),
                replica=replica,
                slices=cells_of(profile, ("petal_length",), take(columns, rows(number)))
                .astype("<u2")
                .tobytes(),
            )
            for number, each in enumerate(scores)
        ]
        panes = tuple(
            Pane(
                model=MODEL,
                version=version,
                arm=arm,
                day=day(number).date(),
                num_rows=ROWS_A_DAY,
                num_failed=0,
                cells=profile.count(take(columns, rows(number)), each),
                latency=(1,) + (0,) * (NUM_BUCKETS - 1),
            )
            for number, each in enumerate(scores)
        )
        summary = TapSummary(
            model=MODEL,
            replica=replica,
            sequence=0,
            panes=panes,
            predictions=PackedPredictions.of(predictions),
        )
        self.monitor.observe(summary.to_bytes())

    def tell(self, came: np.ndarray, *, replica: str = "r") -> None:
        labels = [
            Labels(
                request_id=f"{replica}-{number}",
                model=MODEL,
                labels=_told(came[rows(number)]),
                at=day(number) + timedelta(days=1),
            )
            for number in range(NUM_DAYS)
        ]
        assert self.monitor.label(labels) == NUM_DAYS

    def judged(self) -> WindowReport:
        (report,) = self.monitor.advance(MODEL, datetime(2024, 7, 1, tzinfo=UTC))
        return report


def _told(came: np.ndarray) -> bytes:
    if came.dtype == bool:
        return came.astype(np.int8).tobytes()
    return number_labels(came) if came.dtype == float else class_labels(came.tolist())


@pytest.fixture
def garden(tmp_path: Path) -> Iterator[Garden]:
    garden = Garden(tmp_path)
    yield garden
    garden.ledger.close()


def test_a_window_is_measured_as_scikit_learn_does(garden: Garden, tmp_path: Path) -> None:
    # Too few rows for slices by a feature: what is told is by class.
    garden.serve(garden.bundle, "1.0.0")
    garden.tell(CAME)
    report = garden.judged()
    found = {row.metric: row for row in report.performance if row.version == "1.0.0"}
    names = np.array(irises.SPECIES)[SAID.argmax(axis=1)]
    assert found["log_loss"].value == pytest.approx(log_loss(CAME, SAID), abs=1e-5)
    assert found["accuracy"].value == pytest.approx(accuracy_score(CAME, names))
    assert found["macro_f1"].value == pytest.approx(f1_score(CAME, names, average="macro"))
    assert found["baseline_log_loss"].value == pytest.approx(np.log(3), abs=1e-6)
    assert found["brier"].value == pytest.approx(
        ((SAID - (CAME[:, None] == irises.SPECIES)) ** 2).sum(axis=1).mean(), abs=1e-5
    )
    for metric in ("log_loss", "accuracy", "macro_f1", "calibration_error", "brier"):
        assert found[metric].low < found[metric].value < found[metric].high
        assert found[metric].num_rows == 75
    told = {(row.part, row.metric): row for row in garden.ledger.observations.slices(MODEL)}
    assert {row.feature for row in told.values()} == {"species"}
    table = confusion_matrix(CAME, names, labels=irises.SPECIES)
    assert table.trace() < 75
    for true, came in enumerate(irises.SPECIES):
        assert told[came, "recall"].value == table[true, true] / table[true].sum()
        for other, said in enumerate(irises.SPECIES):
            if other != true and table[true, other]:
                row = told[came, f"said {said}"]
                assert row.num_rows * row.value == pytest.approx(table[true, other])
    page = write_report(garden.ledger, MODEL, tmp_path / "irises.html").read_text("utf-8")
    assert "What each class was taken for" in page
    assert "versicolor" in page


def test_what_a_window_lets_expect_is_held_against_its_labels(garden: Garden) -> None:
    garden.serve(garden.bundle, "1.0.0")
    garden.tell(CAME)
    found = {row.metric: row for row in garden.judged().performance if row.version == "1.0.0"}
    # The rows are those of the profile, so what is expected is what came true.
    assert found["expected_log_loss"].value == pytest.approx(found["log_loss"].value, abs=1e-6)
    wrong = 1.0 - found["accuracy"].value
    assert found["expected_error_rate"].value == pytest.approx(wrong, abs=0.02)
    assert found[GAP].value == pytest.approx(0.0, abs=1e-6)


def test_other_answers_to_the_same_rows_are_drift_of_the_score(garden: Garden) -> None:
    hardly = irises.bundle(inverse_penalty=1e-5)  # says one class, and hardly knows
    garden.serve(hardly, "1.0.0", registered=garden.bundle)
    drift = {row.feature: row for row in garden.judged().drift}
    assert drift["score"].drifted
    assert drift["score confidence"].drifted
    assert not any(drift[name].drifted for name in irises.NAMES)


def test_errors_that_become_more_raise_an_alarm(garden: Garden) -> None:
    garden.serve(garden.bundle, "1.0.0")
    garden.tell(np.full(75, "setosa", dtype=object))
    assert [alarm.version for alarm in garden.monitor.watch(MODEL)] == ["1.0.0"]


def test_versions_of_other_classes_are_measured_together(garden: Garden) -> None:
    # The second calls one of them by another name.
    other = irises.bundle(("setosa", "versicolor", "kiwi"))
    register(garden.ledger, garden.store, MODEL, other)
    garden.serve(garden.bundle, "1.0.0")
    garden.serve(other, "1.0.1", replica="s", arm="canary")
    garden.tell(CAME)
    garden.tell(CAME, replica="s")
    found = {(row.version, row.metric): row.value for row in garden.judged().performance}
    hits = {version: found[version, "accuracy"] * 75 for version in ("1.0.0", "1.0.1")}
    assert found["all", "accuracy"] * 150 == pytest.approx(sum(hits.values()))
    lost = [found[version, "log_loss"] for version in ("1.0.0", "1.0.1")]
    assert found["all", "log_loss"] == pytest.approx(np.mean(lost))
    assert lost[1] > 4.0  # a third of the rows were of a class that it does not know


def test_slices_by_a_feature_are_measured_too(
    garden: Garden, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("raymlops.monitor.slices._MIN_ROWS", 5)
    garden.serve(garden.bundle, "1.0.0")
    garden.tell(CAME)
    report = garden.judged()
    parts = [
        row
        for row in garden.ledger.observations.slices(MODEL)
        if (row.feature, row.metric) == ("petal_length", "accuracy")
    ]
    (whole,) = (
        row for row in report.performance if (row.version, row.metric) == ("1.0.0", "accuracy")
    )
    assert len(parts) > 1
    assert sum(row.num_rows for row in parts) == 75
    assert sum(row.num_rows * row.value for row in parts) == pytest.approx(75 * whole.value)


def test_a_window_of_a_probability_and_of_classes_tells_of_each(garden: Garden) -> None:
    is_virginica = LogisticRegression().fit(irises.MATRIX[::2], irises.TARGET[::2] == 2)
    plain = bundle_of(
        format_named("onnx").save(is_virginica, irises.MATRIX[:20]),
        irises.rows((False, False, True)),
        Postprocessing(label="species", reads="probability"),
        recorded=lambda _: False,
    )
    register(garden.ledger, garden.store, MODEL, plain)
    garden.serve(garden.bundle, "1.0.0")
    garden.serve(plain, "1.0.1", replica="s", arm="canary")
    garden.tell(CAME)
    garden.tell(CAME == "virginica", replica="s")
    assert garden.monitor.watch(MODEL) == ()
    found = {(row.version, row.metric): row for row in garden.judged().performance}
    assert found["1.0.0", "macro_f1"].num_rows == 75
    assert found["1.0.1", "roc_auc"].value > 0.9
    assert found["all", "macro_f1"].num_rows == 75


def test_a_classifier_that_a_regression_replaces_is_measured_as_one(
    garden: Garden, tmp_path: Path
) -> None:
    """Its probabilities were held to an RMSE in the window in which a number was said, too, and
    the page went on drawing the log loss alone."""
    is_virginica = LogisticRegression().fit(irises.MATRIX[::2], irises.TARGET[::2] == 2)
    number = LinearRegression().fit(irises.MATRIX[::2], irises.TARGET[::2].astype(float))
    plain, numbers = (
        bundle_of(
            format_named("onnx").save(model, irises.MATRIX[:20]),
            irises.rows(values),
            Postprocessing(label="species", reads=reads),
            recorded=lambda _: False,
        )
        for model, values, reads in (
            (is_virginica, (False, False, True), "probability"),
            (number, (0.0, 1.0, 2.0), "number"),
        )
    )
    for bundle in (plain, numbers):
        register(garden.ledger, garden.store, MODEL, bundle)
    garden.serve(plain, "1.0.1")
    garden.serve(numbers, "1.0.2", replica="s", arm="canary")
    garden.tell(CAME == "virginica")
    garden.tell(irises.TARGET[irises.UNSEEN][ORDER].astype(float), replica="s")
    found = {(row.version, row.metric): row for row in garden.judged().performance}
    assert found["1.0.1", "roc_auc"].value > 0.9
    assert ("1.0.1", "rmse") not in found
    assert found["1.0.2", "rmse"].value < 0.3
    assert found["all", "rmse"] == replace(found["1.0.2", "rmse"], version="all", arm="all")
    page = write_report(garden.ledger, MODEL, tmp_path / "page.html").read_text("utf-8")
    assert "RMSE, last window" in page
    assert "RMSE by window" in page


def said(scores: list[list[float]], labels: list[Class], version: str = "1.0.0") -> Outcomes:
    return outcome(scores, np.array(labels, dtype=object), version=version)


def test_what_no_version_knows_costs_what_a_certain_mistake_does() -> None:
    known = {"1.0.0": Known((4, 7), (0.5, 0.5))}
    seen = [said([[0.5, 0.5], [0.25, 0.75]], [7, 9])]
    found = {each.metric: each.value for each in measure_classes(seen, known=known)}
    assert found["log_loss"] == pytest.approx((np.log(2) + 15.942385) / 2)
    assert found["accuracy"] == 0.0  # where two are as likely, the first is said
    assert found["macro_f1"] == 0.0
    told = {(name, each.metric): each.value for name, each in measure_each_class(seen, known=known)}
    assert told["9", "said 7"] == 1.0
    assert told["7", "said 4"] == 1.0


def test_a_window_without_labels_says_so() -> None:
    found = measure_classes([], known={})
    assert {each.metric for each in found} >= {"log_loss", "accuracy", "macro_f1"}
    assert all(np.isnan(each.value) and each.num_rows == 0 for each in found)
    assert list(measure_each_class([], known={})) == []


def test_arms_are_compared_by_what_each_lost_on_its_own_rows() -> None:
    champion = [said([[0.5, 0.5]], ["a"]), said([[0.5, 0.5]], ["b"])]
    canary = [
        said([[0.75, 0.25]], ["b"], "2.0.0"),
        said([[0.25, 0.75]], ["a"], "2.0.0"),
    ]
    classes = {"1.0.0": ("a", "b"), "2.0.0": ("b", "a")}
    found = difference(champion, canary, classes_of=classes.__getitem__)
    assert found.value == pytest.approx(np.log(0.5) - np.log(0.75))
