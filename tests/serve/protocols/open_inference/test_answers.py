"""Answers written from a pattern are those that are put together value by value."""

from __future__ import annotations

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from raymlops.models import Field, Signature
from raymlops.serve.batching.shares import Batch, Share
from raymlops.serve.form import Form
from raymlops.serve.inference import Result
from raymlops.serve.protocols.open_inference.answers import EVERY_OUTPUT, Wanted, encode_answer

FORM = Form(
    Signature(
        inputs=(Field(name="x", datatype="FP64"),),
        outputs=(
            Field(name='100 % "sure"', datatype="FP32"),
            Field(name="late", datatype="BOOL"),
            Field(name="class", datatype="INT64"),
        ),
    )
)


def result(outputs: object, arm: str = "champion") -> Result:
    return Result("wines", "1.0.0", arm, FORM, outputs)  # type: ignore[arg-type]


def outputs_of(scores: list[float], flags: NDArray[np.bool_]) -> dict[str, NDArray[np.generic]]:
    return {
        "class": np.arange(len(scores)) - 1,  # in another order than the form's
        "late": flags,
        '100 % "sure"': np.array(scores, dtype=np.float32),
    }


@given(
    scores=st.lists(st.floats(width=32), min_size=1, max_size=5),
    request_id=st.text(max_size=20),
    arm=st.sampled_from(["champion", "a%b", 'an "arm"']),
)
def test_a_row_of_a_batch_is_answered_as_if_it_were_alone(
    scores: list[float], request_id: str, arm: str
) -> None:
    outputs = outputs_of(scores, np.array(scores) > 0)
    batch = Batch({}, outputs)
    for row in range(len(scores)):
        share = Share(batch, row, row + 1)
        body = encode_answer(request_id, result(share, arm), EVERY_OUTPUT).body
        assert body == encode_answer(request_id, result(dict(share), arm), EVERY_OUTPUT).body
        document = orjson.loads(body)
        assert (document["id"], document["parameters"]) == (request_id, {"arm": arm})
        assert document["outputs"][2]["data"] == [row - 1]


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("late", np.array([[0.1, np.nan], [1e30, -0.5], [3.0, 4.0]], dtype=np.float32)),
        ("late", np.array([[True], [False], [True]])),
        ("class", np.array(["a,b", 'the "%b" \u00fc\n', ""], dtype=object)),
        ("class", np.array(["setosa", "versicolor", "setosa"])),
    ],
    ids=["lists", "lists of one", "texts of any length", "texts"],
)
def test_texts_and_lists_of_numbers_are_written_with_their_batch(
    name: str, values: NDArray[np.generic]
) -> None:
    outputs = outputs_of([0.25, 0.5, 0.75], np.array([True, False, True])) | {name: values}
    batch = Batch({}, outputs)
    for row in range(3):
        share = Share(batch, row, row + 1)
        body = encode_answer("r", result(share), EVERY_OUTPUT).body
        assert body == encode_answer("r", result(dict(share)), EVERY_OUTPUT).body
    (written,) = batch._made.values()
    assert written is not None


@pytest.mark.parametrize(
    "values",
    [
        np.ones((3, 2, 2)),
        np.ones((3, 0)),
        np.array(["a", None, "c"], dtype=object),
        np.array([["a"], ["b"], ["c"]], dtype=object),
    ],
    ids=["three axes", "nothing", "a missing text", "lists of texts"],
)
def test_what_is_neither_is_written_the_long_way(values: NDArray[np.generic]) -> None:
    outputs = outputs_of([0.25, 0.5, 0.75], np.array([True, False, True])) | {"class": values}
    batch = Batch({}, outputs)
    share = Share(batch, 1, 2)
    body = encode_answer("r", result(share), EVERY_OUTPUT).body
    assert body == encode_answer("r", result(dict(share)), EVERY_OUTPUT).body
    assert list(batch._made.values()) == [None]


def test_several_rows_and_chosen_outputs_are_the_shares_own() -> None:
    outputs = outputs_of([0.25, 0.5, 0.75], np.array([True, False, True]))
    share = Share(Batch({}, outputs), 1, 3)
    assert (len(share), share.num_rows, list(share)) == (3, 2, list(outputs))
    document = orjson.loads(encode_answer("r", result(share), EVERY_OUTPUT).body)
    assert document["outputs"][0]["data"] == [0.5, 0.75]
    chosen = Wanted(("late",), frozenset(), False)
    document = orjson.loads(
        encode_answer("r", result(Share(Batch({}, outputs), 0, 1)), chosen).body
    )
    assert document["outputs"] == [
        {"name": "late", "datatype": "BOOL", "shape": [1], "data": [True]}
    ]
