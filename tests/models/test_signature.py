from __future__ import annotations

import numpy as np
import pytest

from raymlops.data import Columns
from raymlops.errors import SignatureError
from raymlops.models import Field, Signature

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
