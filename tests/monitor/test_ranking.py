"""A model that ranks: which departures of an hour of January 2013 will be the most punctual."""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from sklearn.ensemble import RandomForestRegressor
from sklearn.metrics import ndcg_score

from raymlops.ledger import Ledger, Outcomes
from raymlops.models import Bundle, Postprocessing, format_named
from raymlops.monitor import (
    ConceptPolicy,
    DriftMonitor,
    DriftPolicy,
    WindowPolicy,
    difference,
    loss_of,
    write_report,
)
from raymlops.operate.own_models import bundle_of
from raymlops.operate.triggers import RetrainPolicy, find_trigger
from raymlops.storage import Store
from tests.monitor.answering import Request, labels, summary
from tests.monitor.months import FIRST, outcome
from tests.runs import start_training

SAYS = Postprocessing(label="useful", reads="relevance")
INPUTS = ["carrier_code", "distance", "dep_delay"]
MODEL = "departures"


@pytest.fixture(scope="module")
def january(flights: pd.DataFrame) -> pd.DataFrame:
    table = flights[flights["month"] == 1].copy()
    table["useful"] = np.select([table["arr_delay"] <= 0, table["arr_delay"] <= 15], [2.0, 1.0])
    table["carrier_code"] = table["carrier"].astype("category").cat.codes
    table["query"] = table["origin"] + table["day"].astype(str) + "-" + table["hour"].astype(str)
    return table


@pytest.fixture(scope="module")
def bundle(january: pd.DataFrame) -> Bundle:
    """Of a forest of the first week, held against the second."""
    first, second = (january[january["day"].between(*days)] for days in ((1, 7), (8, 14)))
    matrix = first[INPUTS].to_numpy(np.float32)
    forest = RandomForestRegressor(10, max_depth=6, random_state=0).fit(matrix, first["useful"])
    rows = pa.Table.from_pandas(second[[*INPUTS, "useful", "query"]], preserve_index=False)
    return bundle_of(
        format_named("onnx").save(forest, matrix[:20]),
        rows,
        SAYS,
        query="query",
        recorded=lambda _: False,
    )


@pytest.fixture(scope="module")
def requests(january: pd.DataFrame, bundle: Bundle) -> list[Request]:
    """One a departures' board and hour of the second half of the month."""
    found = []
    for name, rows in january[january["day"] > 14].groupby("query", sort=False):
        columns = {each: rows[each].to_numpy(np.float64) for each in INPUTS}
        first = rows.iloc[0]
        found.append(
            Request(
                id=name,
                time=datetime(2013, 1, first["day"], first["hour"], tzinfo=UTC),
                columns=columns,
                said=bundle.predict(columns)["useful"],
                came=rows["useful"].to_numpy(),
            )
        )
    return sorted(found, key=lambda each: each.time)


class Judged:
    """A ledger in which requests were answered, labelled and judged."""

    def __init__(self, folder: Path, bundle: Bundle, requests: list[Request]) -> None:
        self.ledger = Ledger(f"sqlite:///{folder}/ledger.db")
        store = Store(str(folder / "store"))
        run = start_training(self.ledger, MODEL)
        self.ledger.registry.register(
            MODEL,
            bundle=bundle.save(store),
            signature=bundle.signature.to_json(),
            run_id=run.id,
            bump="patch",
        )
        monitor = DriftMonitor(
            self.ledger.url,
            store.uri,
            WindowPolicy(),
            DriftPolicy(),
            slice_by=("carrier_code",),
            concept=ConceptPolicy(),
        )
        told = summary(MODEL, bundle, requests, slice_by=("carrier_code",))
        monitor.observe(told.to_bytes())
        monitor.label(labels(MODEL, requests, at=datetime(2013, 1, 31, 23, tzinfo=UTC)))
        self.alarms = monitor.watch(MODEL)
        (self.report,) = monitor.advance(MODEL, datetime(2013, 2, 1, tzinfo=UTC))


@pytest.fixture(scope="module")
def judged(
    bundle: Bundle, requests: list[Request], tmp_path_factory: pytest.TempPathFactory
) -> Judged:
    return Judged(tmp_path_factory.mktemp("ranking"), bundle, requests)


def mean_ndcg(requests: list[Request], *, by_chance: bool = False) -> float:
    """That of scikit-learn, of requests in which some row was of use."""
    return float(
        np.mean(
            [
                ndcg_score([each.came], [each.came * 0 if by_chance else each.said], k=10)
                for each in requests
                if each.came.any() and len(each.came) > 1
            ]
        )
    )


def test_a_window_is_measured_as_scikit_learn_does(judged: Judged, requests: list[Request]) -> None:
    several = [each for each in requests if len(each.came) > 1]
    assert len(several) > 700
    found = {row.metric: row for row in judged.report.performance if row.version == "1.0.0"}
    assert found.keys() == {
        "ndcg_loss", "baseline_ndcg_loss", "ndcg_loss_over_baseline",
        "ndcg_at_10", "map_at_10", "recall_at_10", "scored_share",
    }  # fmt: skip
    of_use = sum(each.came.any() for each in requests)
    alone = sum(each.came.any() for each in requests if len(each.came) == 1)  # in perfect order
    wanted = (mean_ndcg(requests) * (of_use - alone) + alone) / of_use
    by_chance = (mean_ndcg(requests, by_chance=True) * (of_use - alone) + alone) / of_use
    assert found["ndcg_at_10"].value == pytest.approx(wanted, rel=1e-6)
    assert found["ndcg_loss"].value == pytest.approx(1.0 - wanted, rel=1e-6)
    assert found["baseline_ndcg_loss"].value == pytest.approx(1.0 - by_chance, rel=1e-6)
    assert found["ndcg_loss_over_baseline"].high < 0.0
    assert found["ndcg_at_10"].num_rows == of_use
    assert found["scored_share"].value == 1.0


def test_arms_are_measured_apart(bundle: Bundle, requests: list[Request], tmp_path: Path) -> None:
    several = [each for each in requests if len(each.came) > 1]
    canary = [replace(each, arm="canary") for each in several[1::2]]
    judged = Judged(tmp_path, bundle, [*several[::2], *canary])
    found = {row.arm: row for row in judged.report.performance if row.metric == "ndcg_at_10"}
    for arm, kin in (("champion", several[::2]), ("canary", canary), ("all", several)):
        assert found[arm].value == pytest.approx(mean_ndcg(kin), rel=1e-6)


def test_slices_are_the_order_of_their_rows_among_themselves(
    judged: Judged, requests: list[Request]
) -> None:
    slices = [row for row in judged.ledger.observations.slices(MODEL) if row.metric == "ndcg_at_10"]
    largest = max(slices, key=lambda row: row.num_rows)
    assert largest.feature == "carrier_code"
    assert 0.0 < largest.low < largest.value < largest.high <= 1.0


def test_the_report_tells_of_it(judged: Judged, tmp_path: Path) -> None:
    page = write_report(judged.ledger, MODEL, tmp_path / "m.html").read_text("utf-8")
    for told in ("NDCG loss, last window", "random order", "Mean average precision of the first"):
        assert told in page


def test_it_calls_for_another_once_its_order_is_worse(judged: Judged, bundle: Bundle) -> None:
    policy = RetrainPolicy(on=("performance",))
    assert find_trigger(policy, judged.report, "1.0.0", bundle.profile.loss) is None
    found = find_trigger(policy, judged.report, "1.0.0", bundle.profile.loss / 2)
    assert found is not None
    assert found.why.startswith("NDCG loss of 1.0.0 was 0.")
    assert "at training it was" in found.why


def turned(requests: list[Request], since: datetime) -> list[Request]:
    """As if somebody had taken the largest for the least from then on."""
    return [replace(each, said=-each.said) if each.time >= since else each for each in requests]


def test_an_order_that_is_turned_is_an_alarm_and_worse_than_chance(
    judged: Judged, bundle: Bundle, requests: list[Request], tmp_path: Path
) -> None:
    since = datetime(2013, 1, 22, tzinfo=UTC)
    worse = Judged(tmp_path, bundle, turned(requests, since))
    first = next(alarm for alarm in worse.alarms if alarm.event_time >= since)
    assert first.event_time < since + timedelta(hours=12)
    assert first.recent_rate > 2 * first.reference_rate == 2 * bundle.profile.far_off_rate
    assert len(worse.alarms) > 2 * len(judged.alarms)  # some days were wintry
    after = {row.metric: row for row in worse.report.performance if row.version == "1.0.0"}
    before = {row.metric: row for row in judged.report.performance if row.version == "1.0.0"}
    assert after["ndcg_loss"].low > before["ndcg_loss"].high

    whole = turned(requests, datetime(2013, 1, 1, tzinfo=UTC))
    backwards = Judged(tmp_path / "backwards", bundle, whole)
    policy = RetrainPolicy(on=("performance",), max_loss_increase=math.inf)
    assert find_trigger(policy, worse.report, "1.0.0", bundle.profile.loss) is None
    found = find_trigger(policy, backwards.report, "1.0.0", bundle.profile.loss)
    assert found is not None
    assert found.why.endswith("a random order would do better")


def test_two_versions_are_held_against_each_other_by_their_orders(
    bundle: Bundle, requests: list[Request]
) -> None:
    def outcomes(some: list[Request], arm: str) -> list[Outcomes]:
        days = [(each.time - FIRST) / timedelta(days=1) for each in some]
        return [
            outcome(each.said, each.came, day=day, arm=arm)
            for each, day in zip(some, days, strict=True)
        ]

    loss = loss_of(SAYS)
    assert loss_of(bundle.signature) is loss  # by which the controller of releases chooses
    champion = outcomes(requests[::2], "champion")
    alike = difference(champion, outcomes(requests[1::2], "canary"), loss)
    assert alike.low < 0.0 < alike.high
    back = turned(requests[1::2], datetime(2013, 1, 1, tzinfo=UTC))
    worse = difference(champion, outcomes(back, "canary"), loss)
    several = [[each for each in some if len(each.came) > 1] for some in (requests[::2], back)]
    assert worse.low > 0.02
    wanted = mean_ndcg(several[0]) - mean_ndcg(several[1])
    assert worse.value == pytest.approx(wanted, abs=0.01)  # requests of one row differ in nothing
