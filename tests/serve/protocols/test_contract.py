"""Every protocol gives the bundle's own answers to the same rows, and refuses the same ones."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from raymlops.data import Columns, take
from raymlops.models import PROBABILITY, Bundle
from tests.serve.conftest import MODEL, read_columns
from tests.serve.protocols.conftest import InProcess

Rows = list[dict[str, Any]]
Infer = Callable[[InProcess, Rows], list[float]]
PREDICT = "/predict"
INFER = f"/v2/models/{MODEL}/infer"
TENSORFLOW = f"/v1/models/{MODEL}"
DEEP: list[Any] = json.loads("[" * 600 + "]" * 600)
MANY_NAMES = {f"k{index}": 0 for index in range(1000)}


def as_records(app: InProcess, rows: Rows) -> list[float]:
    return [row[PROBABILITY] for row in app.post(PREDICT, rows)["predictions"]]


def tensors(rows: Rows) -> dict[str, Any]:
    return {
        "inputs": [
            {
                "name": name,
                "datatype": "BYTES" if name == "size" else "FP64",
                "shape": [len(rows)],
                "data": [row[name] for row in rows],
            }
            for name in rows[0]
        ]
    }


def by_open_inference(app: InProcess, rows: Rows) -> list[float]:
    answer = app.post(INFER, tensors(rows))
    found: list[float] = answer["outputs"][0]["data"]
    return found


def by_instances(app: InProcess, rows: Rows) -> list[float]:
    answer = app.post(f"{TENSORFLOW}:predict", {"instances": rows})
    return [row[PROBABILITY] for row in answer["predictions"]]


def by_inputs(app: InProcess, rows: Rows) -> list[float]:
    inputs = {name: [[row[name]] for row in rows] for name in rows[0]}
    answer = app.post(
        f"{TENSORFLOW}:predict", {"signature_name": "serving_default", "inputs": inputs}
    )
    found: list[float] = answer["outputs"][PROBABILITY]
    return found


def by_regress(app: InProcess, rows: Rows) -> list[float]:
    found: list[float] = app.post(f"{TENSORFLOW}:regress", {"examples": rows})["result"]
    return found


def by_classify(app: InProcess, rows: Rows) -> list[float]:
    answer = app.post(f"{TENSORFLOW}:classify", {"context": {}, "examples": rows})
    assert [pair[0] for pair in answer["result"][0]] == ["benign", "not benign"]
    return [row[0][1] for row in answer["result"]]


PROTOCOLS: list[Infer] = [
    as_records,
    by_open_inference,
    by_instances,
    by_inputs,
    by_regress,
    by_classify,
]


def rows_of(columns: Columns) -> Rows:
    plain = {
        name: [None if value != value else value for value in column.tolist()]
        for name, column in columns.items()
    }
    return [dict(zip(plain, row, strict=True)) for row in zip(*plain.values(), strict=True)]


@pytest.mark.parametrize("infer", PROTOCOLS)
@pytest.mark.parametrize("num_rows", [1, 60])
def test_answers_are_the_bundles(
    app: InProcess, bundles: dict[str, Bundle], infer: Infer, num_rows: int
) -> None:
    columns = take(read_columns()[0], slice(0, num_rows))
    wanted = bundles["1.0.0"].predict(columns)[PROBABILITY]
    np.testing.assert_allclose(infer(app, rows_of(columns)), wanted, rtol=1e-6)


@pytest.mark.parametrize("infer", PROTOCOLS)
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"radius": -1.0}, "field 'radius': row 1 is -1; it must be at least 0"),
        ({"radius": None}, "field 'radius': row 1 is nan; it may not be missing or NaN"),
        ({"radius": "1"}, "field 'radius': row 1 is '1', not FP64"),
        ({"radius": True}, "field 'radius': row 1 is True, not FP64"),
        ({"radius": 10**400}, "field 'radius': holds a number beyond the range of FP64"),
        ({"radius": float("nan")}, "field 'radius': row 1 is nan; it may not be missing or NaN"),
        ({"texture": float("inf")}, "field 'texture': row 1 is inf; it must be finite"),
        ({"size": 3}, "field 'size': row 1 is a whole number, not text"),
        ({"size": "\ud800"}, "field 'size': row 1 is not valid Unicode"),
        ({"size": {"b65": ""}}, "field 'size': row 1 is an object, not text"),
        ({"colour": 1.0}, "field 'colour': unknown; the model takes radius, size, smoothness"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(
    app: InProcess, monkeypatch: pytest.MonkeyPatch, infer: Infer, change: Any, message: str
) -> None:
    rows = rows_of(take(read_columns()[0], slice(0, 2)))
    rows[1] |= change
    rows[0] |= {name: value for name, value in change.items() if name not in rows[0]}
    refusals: list[str] = []

    def post(path: str, document: Any, **_: str) -> Any:
        refusals.append(app.refusal(path, document))
        raise _RefusedError

    monkeypatch.setattr(app, "post", post)
    with pytest.raises(_RefusedError):
        infer(app, rows)
    assert message in refusals[0]


class _RefusedError(Exception):
    pass


@pytest.mark.parametrize(
    ("path", "document"),
    [
        (PREDICT, [{f"k{row}": 0} for row in range(1000)]),
        (f"{TENSORFLOW}:predict", {"instances": [{f"k{row}": 0} for row in range(1000)]}),
        (f"{TENSORFLOW}:classify", {"examples": [{f"k{row}": 0} for row in range(1000)]}),
        (f"{TENSORFLOW}:regress", {"context": MANY_NAMES, "examples": [{}] * 1000}),
        (f"{TENSORFLOW}:classify", {"context": MANY_NAMES, "examples": [{}] * 1000}),
    ],
)
def test_a_small_body_is_refused_before_it_grows(app: InProcess, path: str, document: Any) -> None:
    tracemalloc.start()
    try:
        error = app.refusal(path, document)
        peak_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert "field 'k0': unknown" in error
    assert peak_bytes < 4e6  # a value of each row for each of these names would take 8 MB


@pytest.mark.parametrize("infer", PROTOCOLS)
def test_a_request_without_rows_is_refused(app: InProcess, infer: Infer) -> None:
    path, document = {
        as_records: (PREDICT, []),
        by_open_inference: (INFER, {"inputs": []}),
        by_instances: (f"{TENSORFLOW}:predict", {"instances": []}),
        by_inputs: (f"{TENSORFLOW}:predict", {"inputs": {}}),
        by_regress: (f"{TENSORFLOW}:regress", {"examples": []}),
        by_classify: (f"{TENSORFLOW}:classify", {"examples": []}),
    }[infer]
    error = app.refusal(path, document)
    assert error in ("there are no rows", "field 'radius': missing")


@pytest.mark.parametrize("path", [PREDICT, INFER, f"{TENSORFLOW}:predict", f"{TENSORFLOW}:regress"])
@pytest.mark.parametrize(
    "body", [b"", b"\xff", b"{", b"[" * 100_000, b"3", b'"text"', b"null", b'{"a": 1e999}']
)
def test_a_body_that_is_no_request_is_the_clients_fault(
    app: InProcess, path: str, body: bytes
) -> None:
    assert app.refusal(path, body)


def test_a_version_or_label_can_be_asked_for(app: InProcess, bundles: dict[str, Bundle]) -> None:
    columns = take(read_columns()[0], slice(0, 1))
    rows = rows_of(columns)
    wanted = bundles["1.0.1"].predict(columns)[PROBABILITY]
    for path in ("versions/1.0.1", "labels/challenger"):
        answer = app.post(f"{TENSORFLOW}/{path}:predict", {"instances": rows})
        np.testing.assert_allclose(answer["predictions"][0][PROBABILITY], wanted[0], rtol=1e-6)
    answer = app.post(f"/v2/models/{MODEL}/versions/1.0.1/predict", rows)
    assert (answer["version"], answer["arm"]) == ("1.0.1", "pinned")


@pytest.mark.parametrize(
    ("path", "message"),
    [
        (
            f"{TENSORFLOW}/labels/stable:predict",
            "no version is labelled 'stable'; there are:",
        ),
        (f"{TENSORFLOW}/versions/7:predict", "version 7 is not loaded; there are: 1.0.0, 1.0.1"),
        ("/v1/models/other:predict", "no model 'other' is deployed here"),
        ("/v2/models/other/predict", "no model 'other' is deployed here"),
    ],
)
def test_what_is_not_there_is_a_404(app: InProcess, path: str, message: str) -> None:
    assert message in app.refusal(path, {"instances": []}, status=404)


def test_a_request_is_known_by_the_id_it_brings(app: InProcess) -> None:
    rows = rows_of(take(read_columns()[0], slice(0, 1)))
    body = json.dumps({"instances": rows}).encode()
    response = app.ask("POST", f"{TENSORFLOW}:predict", body, x_request_id="r-7")
    headers = dict(response.headers)
    assert headers == {"x-request-id": "r-7", "x-model-version": "1.0.0", "x-arm": "champion"}
    assert app.exchanges[-1].id == "r-7"
    envelope = {"records": rows, "id": "r-8", "parameters": {"event_time": "2013-07-01T00:00:00Z"}}
    assert app.post(PREDICT, envelope)["id"] == "r-8"
    when = app.exchanges[-1].event_time
    assert when is not None
    assert when.year == 2013


@pytest.mark.parametrize("character", ["\0", "\n", "\x1b", "\x7f"])
def test_an_id_that_no_log_and_not_every_ledger_holds_is_refused(
    app: InProcess, character: str
) -> None:
    # PostgreSQL stores no NUL: the messages to the monitor waited behind such an id for ever.
    rows = rows_of(take(read_columns()[0], slice(0, 1)))
    id = f"r{character}7"
    error = f"id holds the control character {character!r}; leave such ones out"
    assert app.refusal(PREDICT, {"records": rows, "id": id}) == error
    assert app.refusal(INFER, tensors(rows) | {"id": id}) == error
    keyed = tensors(rows) | {"parameters": {"key": id}}
    assert app.refusal(INFER, keyed) == error.replace("id", "parameters.key", 1)
    for path, document in ((PREDICT, rows), (f"{TENSORFLOW}:predict", {"instances": rows})):
        response = app.ask("POST", path, json.dumps(document).encode(), x_request_id=id)
        assert (response.status, json.loads(response.body)["error"]) == (400, error)


@pytest.mark.parametrize(
    ("id", "shown"), [(0, "a whole number"), (False, "False"), ([], "a list"), ({}, "an object")]
)
def test_an_id_that_is_no_text_is_refused_also_where_it_is_nothing(
    app: InProcess, id: Any, shown: str
) -> None:
    # It was answered under an id of the server's own, by which no label ever joined.
    rows = rows_of(take(read_columns()[0], slice(0, 1)))
    assert app.refusal(PREDICT, {"records": rows, "id": id}) == f"id is {shown}, not text"
    assert app.refusal(INFER, tensors(rows) | {"id": id}) == f"id is {shown}, not text"


@pytest.mark.parametrize("nothing", ["", None])
def test_a_request_without_an_id_gets_one(app: InProcess, nothing: str | None) -> None:
    rows = rows_of(take(read_columns()[0], slice(0, 1)))
    assert len(app.post(PREDICT, {"records": rows, "id": nothing})["id"]) == 32
    assert len(app.post(INFER, tensors(rows) | {"id": nothing})["id"]) == 32


def test_an_id_of_any_language_is_known_by_it(app: InProcess) -> None:
    rows = rows_of(take(read_columns()[0], slice(0, 1)))
    assert app.post(INFER, tensors(rows) | {"id": "Bücher\u00a0書"})["id"] == "Bücher\u00a0書"


@pytest.mark.parametrize(
    ("path", "document", "message"),
    [
        (PREDICT, [1], "row 0 is a whole number, not an object"),
        (
            PREDICT,
            {"record": []},
            "the body has a member 'record'; it takes id,",
        ),
        (PREDICT, {"records": {}}, "records is an object, not a list"),
        (f"{TENSORFLOW}:predict", {}, "the body needs either instances or inputs"),
        (
            f"{TENSORFLOW}:predict",
            {"instances": [], "inputs": []},
            "the body needs either instances or inputs",
        ),
        (
            f"{TENSORFLOW}:predict",
            {"signature_name": "other", "instances": []},
            "signature_name is 'other', not 'serving_default'",
        ),
        (f"{TENSORFLOW}:predict", {"inputs": [1]}, "inputs holds a list where an object belongs"),
        (
            f"{TENSORFLOW}:predict",
            {"inputs": {"radius": 1}},
            "field 'radius': is a whole number, not a list with a value for each row",
        ),
        (f"{TENSORFLOW}:classify", {"examples": [1]}, "examples holds a whole number where"),
        (
            f"{TENSORFLOW}:predict",
            {"inputs": {"size": [{"b64": "/w=="}]}},
            "field 'size': row 0 holds b64 that is no UTF-8 text",
        ),
        (
            f"{TENSORFLOW}:predict",
            {"inputs": {"size": [DEEP]}},
            "field 'size': row 0 is a list, not text",
        ),
    ],
)
def test_each_protocol_says_what_it_wants(
    app: InProcess, path: str, document: Any, message: str
) -> None:
    assert message in app.refusal(path, document)


@pytest.mark.parametrize("infer", [as_records, by_instances, by_inputs, by_regress])
def test_what_may_be_missing_need_not_be_named(app: InProcess, infer: Infer) -> None:
    rows = rows_of(take(read_columns()[0], slice(0, 2)))
    named = infer(app, [row | {"texture": None, "size": None} for row in rows])
    for row in rows:
        del row["texture"], row["size"]
    assert infer(app, rows) == named


def test_texts_may_come_in_base64_and_a_context_holds_for_every_example(app: InProcess) -> None:
    rows = rows_of(take(read_columns()[0], slice(0, 2)))
    plain = by_regress(app, rows)
    for row in rows:
        row["size"] = {"b64": "bGFyZ2U="}  # large
    assert by_regress(app, rows) == plain
    document = {"context": {"size": "small", "radius": -1.0}, "examples": rows}
    assert app.post(f"{TENSORFLOW}:regress", document)["result"] == plain  # by their own values
    for row in rows:
        del row["size"]
    document = {"context": {"size": "large"}, "examples": rows}
    assert app.post(f"{TENSORFLOW}:regress", document)["result"] == plain


def test_status_and_metadata_are_tensorflow_servings(app: InProcess) -> None:
    status = json.loads(app.ask("GET", TENSORFLOW).body)["model_version_status"]
    assert [(each["version"], each["state"]) for each in status] == [
        ("1.0.0", "AVAILABLE"),
        ("1.0.1", "AVAILABLE"),
    ]
    labelled = json.loads(app.ask("GET", f"{TENSORFLOW}/labels/challenger").body)
    assert [each["version"] for each in labelled["model_version_status"]] == ["1.0.1"]
    found = json.loads(app.ask("GET", f"{TENSORFLOW}/metadata").body)
    assert found["model_spec"] == {"name": MODEL, "signature_name": "", "version": "1.0.0"}
    definition = found["metadata"]["signature_def"]["signature_def"]["serving_default"]
    assert definition["inputs"]["size"]["dtype"] == "DT_STRING"
    assert definition["outputs"][PROBABILITY]["tensor_shape"]["dim"] == [{"size": "-1", "name": ""}]
