from __future__ import annotations

import json

import numpy as np
import pytest

from raymlops.data import Columns
from raymlops.errors import SignatureError
from raymlops.models import Field, Signature
from raymlops.models.signature import Datatype

SIGNATURE = Signature(
    inputs=(
        Field(name="x", datatype="FP64", low=0, high=10),
        Field(name="y", datatype="FP64", nullable=True),
        Field(name="c", datatype="BYTES"),
    ),
    outputs=(Field(name="p", datatype="FP32"),),
)


def columns(**changes: object) -> Columns:
    good = {
        "x": np.array([1.0, 10.0]),
        "y": np.array([np.nan, 1.0]),
        "c": np.array(["a", "b"], dtype=object),
    }
    return {name: column for name, column in (good | changes).items() if column is not None}  # type: ignore[misc]


def test_good_columns_pass() -> None:
    SIGNATURE.check(columns())


@pytest.mark.parametrize(
    ("changes", "field", "problem"),
    [
        ({"z": np.zeros(2)}, "z", "unknown; the model takes c, x, y"),
        ({"x": None}, "x", "missing"),
        ({"x": np.zeros((2, 1))}, "x", "has shape [2, 1], not [rows]"),
        ({"c": np.array(["a"], dtype=object)}, "c", "has 1 rows, 'x' has 2"),
        ({"x": np.array([1.0, np.nan])}, "x", "row 1 is nan; it may not be missing or NaN"),
        ({"y": np.array([np.inf, 1.0])}, "y", "row 0 is inf; it must be finite"),
        ({"x": np.array([1.0, -1.0])}, "x", "row 1 is -1; it must be at least 0"),
        ({"x": np.array([1.0, 11.0])}, "x", "row 1 is 11; it must be at most 10"),
        ({"x": np.array(["1", "2"])}, "x", "has dtype <U1, not FP64"),
        ({"c": np.array(["a", None], dtype=object)}, "c", "row 1 may not be missing"),
        ({"c": np.array(["a", 5], dtype=object)}, "c", "row 1 is int 5, not text"),
    ],
)
def test_what_does_not_fit_is_named(changes: dict[str, object], field: str, problem: str) -> None:
    with pytest.raises(SignatureError) as refused:
        SIGNATURE.check(columns(**changes))
    assert (refused.value.field, refused.value.problem) == (field, problem)


def test_an_error_can_be_told_without_the_value() -> None:
    with pytest.raises(SignatureError) as refused:
        SIGNATURE.check(columns(x=np.array([1.0, -1.0])))
    assert str(refused.value.hiding("***")) == "field 'x': row 1 is ***; it must be at least 0"
    with pytest.raises(SignatureError) as refused:
        SIGNATURE.check(columns(x=None))
    assert str(refused.value.hiding("***")) == str(refused.value)


def change(**inputs: Field) -> Signature:
    changed = tuple(inputs.get(field.name, field) for field in SIGNATURE.inputs)
    return Signature(inputs=changed, outputs=SIGNATURE.outputs)


def test_the_bump_says_who_is_broken() -> None:
    wider = change(x=Field(name="x", datatype="FP64", low=0, high=20))
    stricter = change(x=Field(name="x", datatype="FP64", low=0, high=5))
    unbounded = change(x=Field(name="x", datatype="FP64"))
    nullable = change(c=Field(name="c", datatype="BYTES", nullable=True))
    retyped = change(c=Field(name="c", datatype="INT64"))
    fewer = Signature(inputs=SIGNATURE.inputs[:2], outputs=SIGNATURE.outputs)
    more_out = Signature(
        inputs=SIGNATURE.inputs,
        outputs=(*SIGNATURE.outputs, Field(name="q", datatype="FP32")),
    )
    assert SIGNATURE.bump_from(SIGNATURE) == "patch"
    for extended in (wider, unbounded, nullable, more_out):
        assert extended.bump_from(SIGNATURE) == "minor"
    for broken in (stricter, retyped, fewer):
        assert broken.bump_from(SIGNATURE) == "major"
    assert SIGNATURE.bump_from(more_out) == "major"


def test_a_signature_survives_its_file() -> None:
    assert Signature.from_dict(SIGNATURE.to_dict()) == SIGNATURE
    through_json = json.loads(json.dumps(IMAGES.to_dict()))
    assert Signature.from_dict(through_json) == IMAGES


def test_one_value_a_row_is_written_as_before_there_were_shapes() -> None:
    assert SIGNATURE.to_dict()["inputs"][2] == {
        "name": "c", "datatype": "BYTES", "nullable": False, "low": None, "high": None,
    }  # fmt: skip


IMAGES = Signature(
    inputs=(Field(name="image", datatype="UINT8", shape=(2, 3)),),
    outputs=(Field(name="scores", datatype="FP32", shape=(10,)),),
)


def test_fields_may_hold_several_values_a_row() -> None:
    IMAGES.check({"image": np.full((5, 2, 3), 255.0)})
    for shape, problem in (
        ((5,), "has shape [5], not [rows, 2, 3]"),
        ((5, 3, 2), "has shape [5, 3, 2], not [rows, 2, 3]"),
        ((), "has shape [], not [rows, 2, 3]"),
    ):
        with pytest.raises(SignatureError) as refused:
            IMAGES.check({"image": np.zeros(shape)})
        assert refused.value.problem == problem
    images = np.zeros((5, 2, 3))
    images[3, 1, 2] = 256
    with pytest.raises(SignatureError, match=r"row 3 has 256 at \[1, 2]; it must be at most 255"):
        IMAGES.check({"image": images})


def test_texts_may_have_a_shape_too() -> None:
    words = Signature(inputs=(Field(name="words", datatype="BYTES", shape=(2,)),), outputs=())
    words.check({"words": np.array([["a", "b"], ["c", "d"]], dtype=object)})
    with pytest.raises(SignatureError, match="row 1 is int 5, not text"):
        words.check({"words": np.array([["a", "b"], ["c", 5]], dtype=object)})


@pytest.mark.parametrize(
    ("datatype", "value", "rule"),
    [
        ("INT8", -129, "must be at least -128"),
        ("UINT16", 65536, "must be at most 65535"),
        ("INT32", 0.5, "must be a whole number"),
        ("INT64", 1.5, "must be a whole number"),
        ("FP16", 1e5, "must be at most 65504"),
    ],
)
def test_values_stay_within_their_type(datatype: Datatype, value: float, rule: str) -> None:
    signature = Signature(inputs=(Field(name="x", datatype=datatype),), outputs=())
    signature.check({"x": np.array([1.0])})
    with pytest.raises(SignatureError, match=f"it {rule}"):
        signature.check({"x": np.array([1.0, value])})


def test_a_field_that_cannot_be_is_refused() -> None:
    with pytest.raises(ValueError, match="field 'x' has datatype 'FP8'; there are BOOL, BYTES"):
        Field(name="x", datatype="FP8")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"field 'x' has shape \[3, 0]; sizes are positive"):
        Field(name="x", datatype="FP32", shape=(3, 0))


def test_another_shape_breaks_callers() -> None:
    def images(inputs: tuple[int, ...], outputs: tuple[int, ...]) -> Signature:
        return Signature(
            inputs=(Field(name="image", datatype="UINT8", shape=inputs),),
            outputs=(Field(name="scores", datatype="FP32", shape=outputs),),
        )

    assert images((2, 3), (10,)).bump_from(IMAGES) == "patch"
    assert images((3, 2), (10,)).bump_from(IMAGES) == "major"
    assert images((), (10,)).bump_from(IMAGES) == "major"
    assert images((2, 3), (11,)).bump_from(IMAGES) == "major"
    wider = Signature(
        inputs=(Field(name="image", datatype="UINT8", shape=(2, 3), nullable=True),),
        outputs=IMAGES.outputs,
    )
    assert wider.bump_from(IMAGES) == "minor"
