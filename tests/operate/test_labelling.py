from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from raymlops.errors import DataError, NotFoundError
from raymlops.ledger import Labels, Prediction
from raymlops.models import Field, Postprocessing, Signature
from raymlops.operate import Workspace, add_labels
from tests.cli.commands import run
from tests.runs import start_training

ROOT = Path(__file__).parents[2]
NOW = datetime(2013, 7, 2, tzinfo=UTC)


CLASSES = Postprocessing(label="late").outputs
NUMBERS = Postprocessing(label="minutes", reads="number").outputs


@pytest.fixture
def workspace(tmp_path: Path) -> Iterator[Workspace]:
    with Workspace.open(overrides=[f"home={tmp_path / 'home'}"]) as workspace:
        register(workspace, CLASSES)
        yield workspace


def register(workspace: Workspace, outputs: tuple[Field, ...]) -> None:
    """A version of the model that says `outputs`."""
    run = start_training(workspace.ledger, "flights")
    workspace.ledger.registry.register(
        "flights",
        bundle="b" * 64,
        signature=Signature(inputs=(), outputs=outputs).to_json(),
        run_id=run.id,
        bump="major",
    )


def predicted(
    workspace: Workspace, request_id: str, num_rows: int, *, num_classes: int = 1
) -> None:
    scores = np.full(num_rows * num_classes, 0.5, dtype="<f4").tobytes()
    prediction = Prediction(
        request_id=request_id,
        model="flights",
        version="1.0.0",
        arm="champion",
        scores=scores,
        num_rows=num_rows,
        served_at=NOW,
        event_time=NOW,
        replica=request_id,
    )
    workspace.ledger.observations.add_tap(request_id, 0, [], [prediction])


def outcomes(workspace: Workspace) -> dict[str, list[float]]:
    joined = workspace.ledger.observations.joined("flights", after=0, limit=99)
    return {outcome.request_id: outcome.labels.tolist() for _, outcome in joined}


def test_labels_of_a_csv_join_their_requests_row_by_row(
    workspace: Workspace, tmp_path: Path
) -> None:
    for request_id, num_rows in (("q-1", 2), ("q-2", 1), ("q-4", 1)):
        predicted(workspace, request_id, num_rows)
    path = tmp_path / "labels.csv"
    path.write_text("request_id,label\nq-2,1\nq-1,0\nq-3,1\nq-1,1\nq-4,\n")
    told = add_labels(workspace, "flights", path, now=NOW)
    assert outcomes(workspace) == {"q-1": [0, 1], "q-2": [1]}
    assert (told.num_requests, told.num_new, told.num_unknown) == (4, 3, 1)
    assert told.fates == {"joined": 2, "waiting": 1}
    predicted(workspace, "q-3", 1)  # it comes late
    again = add_labels(workspace, "flights", path, now=NOW)
    assert again.num_new == 0
    assert again.fates == {"repeated": 3}  # and no word of what was told before
    assert outcomes(workspace)["q-3"] == [1]


def test_numbers_are_kept_as_numbers(workspace: Workspace, tmp_path: Path) -> None:
    register(workspace, NUMBERS)
    for request_id, num_rows in (("7", 2), ("8", 1)):
        predicted(workspace, request_id, num_rows)
    path = tmp_path / "labels.parquet"
    tell = partial(
        add_labels, workspace, "flights", path, now=NOW, id_column="booking",
        label_column="minutes",
    )  # fmt: skip
    pq.write_table(pa.table({"booking": [7, 7, 8], "minutes": [12.5, -3.0, 1.0]}), path)
    tell()
    assert outcomes(workspace) == {"7": [12.5, -3.0], "8": [1.0]}
    # A file that held but 0 and 1 was taken for one of classes, and contradicted the other.
    pq.write_table(pa.table({"booking": [8], "minutes": [1.0]}), path)
    assert tell().fates == {"repeated": 1}


@pytest.mark.parametrize("label", ["inf", "-1e39"])
def test_a_number_that_no_answer_reaches_is_refused(
    workspace: Workspace, tmp_path: Path, label: str
) -> None:
    """One of them was joined, and left its windows and canaries an infinite RMSE."""
    register(workspace, NUMBERS)
    path = tmp_path / "labels.csv"
    path.write_text(f"request_id,label\nq-1,12.5\nq-2,{label}\n")
    with pytest.raises(DataError, match=r"of request 'q-2'; flights says numbers, .* finite"):
        add_labels(workspace, "flights", path, now=NOW)


def test_how_relevant_rows_were_is_told_row_by_row(workspace: Workspace, tmp_path: Path) -> None:
    register(workspace, Postprocessing(label="useful", reads="relevance").outputs)
    predicted(workspace, "q-1", 3)
    path = tmp_path / "labels.csv"
    path.write_text("request_id,label\nq-1,0\nq-1,2\nq-1,0.5\nq-2,-1\n")
    with pytest.raises(DataError, match=r"says -1 of request 'q-2'; flights says an order, and"):
        add_labels(workspace, "flights", path, now=NOW)
    path.write_text("request_id,label\nq-1,0\nq-1,2\nq-1,0.5\n")
    add_labels(workspace, "flights", path, now=NOW)
    assert outcomes(workspace) == {"q-1": [0.0, 2.0, 0.5]}


def test_a_truth_value_is_no_number(workspace: Workspace, tmp_path: Path) -> None:
    """Of a column such as is_late that was named in its place, ones and zeros were kept for good:
    the labels that come first stay."""
    register(workspace, NUMBERS)
    path = tmp_path / "told.csv"
    path.write_text("request_id,label\nq-1,true\nq-2,false\n")
    with pytest.raises(DataError, match="'label' holds true and false; flights says numbers"):
        add_labels(workspace, "flights", path, now=NOW)


def test_a_number_that_is_called_probability_is_one(workspace: Workspace, tmp_path: Path) -> None:
    """Its labels were refused, which were neither 0 nor 1."""
    register(workspace, Postprocessing(label="probability", reads="number").outputs)
    predicted(workspace, "q-1", 1)
    path = tmp_path / "labels.csv"
    path.write_text("request_id,label\nq-1,37.5\n")
    add_labels(workspace, "flights", path, now=NOW)
    assert outcomes(workspace) == {"q-1": [37.5]}


def test_what_is_no_class_is_refused_as_a_whole(workspace: Workspace, tmp_path: Path) -> None:
    # A 2 among labels was joined, and made a rate of 1.0 of the labels 1, 2, 1, 0.
    predicted(workspace, "q-1", 1)
    path = tmp_path / "labels.csv"
    path.write_text("request_id,label\nq-1,1\nq-2,2\n")
    with pytest.raises(DataError, match="column 'label' says 2 of request 'q-2'; flights says"):
        add_labels(workspace, "flights", path, now=NOW)
    assert outcomes(workspace) == {}
    odd = Labels(request_id="q-1", model="flights", labels=b"\x02", at=NOW)
    assert workspace.ledger.observations.add_labels([odd]) == 0
    assert workspace.ledger.observations.join_counts("flights") == {"misfit": 1}


def test_labels_of_too_many_unknown_requests_are_told(
    workspace: Workspace, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A file with the wrong ids was "taken now", while most of it was dropped at once."""
    path = tmp_path / "labels.csv"
    path.write_text("request_id,label\n" + "".join(f"order-{i},1\n" for i in range(9)) + "q-1,1\n")
    predicted(workspace, "q-1", 1)
    overrides = [f"home={workspace.home}", "monitor.joins.max_waiting=4"]
    with Workspace.open(overrides=overrides) as few:
        told = add_labels(few, "flights", path, now=NOW)
    assert told.fates == {"joined": 1, "waiting": 9, "overflow": 5}
    assert told.num_new == 5
    assert re.match(
        r"the labels of 5 requests that flights has not answered are dropped, .* no more than 4 "
        r"may wait \(monitor\.joins\.max_waiting\)",
        caplog.messages[-1],
    )
    add_labels(workspace, "flights", path, now=NOW)
    assert len(caplog.messages) == 1


def test_labels_that_come_too_late_are_told(
    workspace: Workspace, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    # Of a replay of January all were left out, with status 0 and a count that grew each time.
    path = tmp_path / "labels.csv"
    path.write_text("request_id,label\nq-1,1\nq-2,0\n")
    for request_id in ("q-1", "q-2"):
        predicted(workspace, request_id, 1)
    why = (
        r"requests are left out: they came more than 90 days \(monitor\.joins\.max_age_days\) "
        "after the event times; set that higher, or say by --as-of when they were known"
    )
    later = NOW + timedelta(days=91)
    with pytest.raises(DataError, match=f"the labels of 2 of 2 {why}"):
        add_labels(workspace, "flights", path, now=later)
    predicted(workspace, "q-3", 1)
    path.write_text("request_id,label\nq-3,1\n")
    add_labels(workspace, "flights", path, now=NOW)
    path.write_text("request_id,label\nq-1,1\nq-2,0\nq-3,1\n")
    told = add_labels(workspace, "flights", path, now=later)
    assert told.fates == {"too_late": 2, "repeated": 1}
    assert re.match(f"the labels of 2 of 3 {why}", caplog.messages[-1])
    at = (NOW + timedelta(days=89)).isoformat()
    shown = run("labels", "flights", path, "--as-of", at, "--home", workspace.home)
    assert "taken now  2" in shown


def test_a_model_there_is_not_is_refused(workspace: Workspace, tmp_path: Path) -> None:
    # A slip in its name had all labels wait until they were too old, and said that all was well.
    path = tmp_path / "labels.csv"
    path.write_text("request_id,label\nq-1,1\n")
    with pytest.raises(NotFoundError, match="no model 'flihgts', but flights"):
        add_labels(workspace, "flihgts", path, now=NOW)


def test_an_id_in_a_csv_is_a_text_whatever_it_looks_like(
    workspace: Workspace, tmp_path: Path
) -> None:
    # 007 was read as 7 and 12e4 as 120000.0, and none of them ever joined.
    for request_id in ("007", "12e4", "9223372036854775808"):
        predicted(workspace, request_id, 1)
    path = tmp_path / "labels.csv"
    path.write_text("request_id,label\n007,1\n12e4,0\n9223372036854775808,1\n")
    add_labels(workspace, "flights", path, now=NOW)
    assert outcomes(workspace) == {"007": [1], "12e4": [0], "9223372036854775808": [1]}


def test_a_table_of_something_else_is_refused(workspace: Workspace, tmp_path: Path) -> None:
    path = tmp_path / "labels.csv"
    path.write_text("id,label\nq,late\n")
    with pytest.raises(DataError, match="no column 'request_id', but id, label; say which it is"):
        add_labels(workspace, "flights", path, now=NOW)
    with pytest.raises(DataError, match="column 'label' is string; labels are 0 and 1"):
        add_labels(workspace, "flights", path, now=NOW, id_column="id")
    path.write_text("request_id,label\nq,1\n,1\n")
    with pytest.raises(DataError, match="column 'request_id' names no request in 1 lines"):
        add_labels(workspace, "flights", path, now=NOW)
    path.write_text("request_id,label\n")
    assert add_labels(workspace, "flights", path, now=NOW).num_requests == 0


def test_the_file_of_the_docs_is_told(workspace: Workspace, tmp_path: Path) -> None:
    page = (ROOT / "docs/monitoring/labels.md").read_text()
    for request_id, num_rows in (("booking-7", 1), ("booking-8", 2), ("booking-9", 1)):
        predicted(workspace, request_id, num_rows)
    path = tmp_path / "outcomes.csv"
    path.write_text(page.split("```csv\n")[1].split("```")[0])
    told = add_labels(workspace, "flights", path, now=NOW)
    assert (told.num_requests, told.num_new, told.num_unknown) == (3, 2, 1)
    assert outcomes(workspace) == {"booking-7": [1], "booking-8": [0, 1]}


SEVERAL = Postprocessing(label="fruit", classes=("fig", "kiwi", "plum")).outputs
WHOLE = Postprocessing(label="digit", classes=tuple(range(10))).outputs


def test_classes_are_told_by_name(
    workspace: Workspace, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    register(workspace, SEVERAL)
    predicted(workspace, "q-1", 2, num_classes=3)
    predicted(workspace, "q-2", 1, num_classes=3)
    path = tmp_path / "labels.csv"
    path.write_text("request_id,label\nq-1,plum\nq-2,kumquat\nq-1,fig\nq-3,\n")
    told = add_labels(workspace, "flights", path, now=NOW)
    assert (told.num_new, told.num_unknown) == (2, 1)
    assert outcomes(workspace) == {"q-1": ["plum", "fig"], "q-2": ["kumquat"]}
    assert caplog.messages == [
        "column 'label' says 'kumquat', which is no class of flights: it knows 'fig', 'kiwi', "
        "'plum'; it was wrong in these 1 of 3 lines"
    ]
    path.write_text("request_id,label\nq-1,Plum\nq-1,Fig\n")
    with pytest.raises(DataError, match="says 'Plum', which is no class of flights"):
        add_labels(workspace, "flights", path, now=NOW)


@pytest.mark.parametrize(
    "names", [("01", "02", "1"), ("True", "False", "?"), ("12:30", "0.10", "NA"), ("1e3", "-", " ")]
)
def test_a_class_in_a_csv_is_a_text_whatever_it_looks_like(
    workspace: Workspace, tmp_path: Path, names: tuple[str, ...]
) -> None:
    """A file of 01 and 02 was read as numbers: every answer was wrong, or the file refused."""
    register(workspace, Postprocessing(label="kind", classes=names).outputs)
    for name in names:
        predicted(workspace, f"q{name}", 1, num_classes=3)
    path = tmp_path / "outcomes.csv"
    for name in names:
        path.write_text(f"request_id,label\nq{name},{name}\nnot-yet,\n")
        told = add_labels(workspace, "flights", path, now=NOW)
        assert (told.fates, told.num_unknown) == ({"joined": 1}, 1)
    assert outcomes(workspace) == {f"q{name}": [name] for name in names}


def test_classes_that_are_whole_numbers_are_told_as_such(
    workspace: Workspace, tmp_path: Path
) -> None:
    register(workspace, WHOLE)
    predicted(workspace, "q-1", 2, num_classes=10)
    path = tmp_path / "labels.csv"
    path.write_text("request_id,label\nq-1,7\nq-1,0\nq-2,\n")
    assert add_labels(workspace, "flights", path, now=NOW).num_new == 1
    assert outcomes(workspace) == {"q-1": [7, 0]}
    path.write_text("request_id,label\nq-1,7.5\n")
    with pytest.raises(DataError, match="'label' is double, the classes are whole numbers such as"):
        add_labels(workspace, "flights", path, now=NOW)
