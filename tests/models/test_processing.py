from __future__ import annotations

from typing import Any

import numpy as np
import orjson
import pytest

from raymlops.data import Columns, Feature, GroupedColumns, Layout, take
from raymlops.models import Postprocessing, Preprocessing

FEATURES = (
    Feature(name="x", kind="number", max_missing=0.5),
    Feature(name="k", kind="number"),
    Feature(name="c", kind="category"),
)
COLUMNS = {
    "x": np.array([1.0, 3.0, np.nan]),
    "k": np.array([7.0, 7.0, 7.0]),
    "c": np.array(["b", "a", "b"], dtype=object),
}


def test_encodings_stand_side_by_side() -> None:
    preprocessing = Preprocessing.fit(FEATURES, COLUMNS)
    np.testing.assert_array_equal(
        preprocessing.transform(COLUMNS),
        [  # x, x missing, k (constant), c=a, c=b
            [-1, 0, 0, 0, 1],
            [1, 0, 0, 1, 0],
            [0, 1, 0, 0, 1],
        ],
    )


def test_a_constant_feature_keeps_its_scale() -> None:
    # The rounded mean of 0.1 made a deviation of 1.4e-17, and of 0.2 an input of 7e15.
    features = (Feature(name="fee", kind="number"),)
    preprocessing = Preprocessing.fit(features, {"fee": np.full(1000, 0.1)})
    asked = {"fee": np.array([0.1, 0.2, 3.1])}
    np.testing.assert_allclose(preprocessing.transform(asked)[:, 0], [0.0, 0.1, 3.0], rtol=1e-6)
    tiny = Preprocessing.fit(features, {"fee": np.array([0.0, 1e-200])})
    assert np.isfinite(tiny.transform(asked)).all()


def test_numbers_whose_squares_are_infinite_keep_their_scale() -> None:
    # Their deviation was infinite, which JSON has as null: the bundle could answer nothing.
    values = {"fee": np.array([np.finfo(np.float64).max, -1e200, 0.0, 0.0])}
    fitted = Preprocessing.fit((Feature(name="fee", kind="number"),), values)
    kept = Preprocessing.from_dict(orjson.loads(orjson.dumps(fitted.to_dict())))
    np.testing.assert_allclose(kept.transform(values)[:, 0], [3**0.5, *[-(3**-0.5)] * 3], rtol=1e-6)


def test_it_is_fitted_on_what_it_is_given_and_nothing_else() -> None:
    older = take(COLUMNS, slice(0, 2))
    preprocessing = Preprocessing.fit(FEATURES, older)
    later = {
        "x": np.array([5.0]),
        "k": np.array([8.0]),
        "c": np.array(["never seen"], dtype=object),
    }
    np.testing.assert_array_equal(preprocessing.transform(later), [[3, 0, 1, 0, 0]])


def test_scikit_learn_encodes_real_numbers_alike(columns: Columns) -> None:
    from sklearn.preprocessing import StandardScaler

    features = (Feature(name="mean_radius", kind="number"),)
    ours = Preprocessing.fit(features, columns).transform(columns)
    theirs = StandardScaler().fit_transform(columns["mean_radius"].reshape(-1, 1))
    np.testing.assert_allclose(ours, theirs, atol=1e-6)


def test_preprocessing_survives_its_file() -> None:
    preprocessing = Preprocessing.fit(FEATURES, COLUMNS)
    assert Preprocessing.from_dict(preprocessing.to_dict()) == preprocessing


@pytest.mark.parametrize("width", [1, 10])
def test_halves_of_a_mixed_precision_model_are_taken_as_singles(width: int) -> None:
    """Their probabilities were summed in float16, to 0.999, and the model was refused."""
    classes = tuple(range(width)) if width > 1 else ()
    postprocessing = Postprocessing(label="digit", classes=classes, reads="logit")
    scores = np.random.default_rng(0).normal(size=(50, width)).astype(np.float16)
    halves, singles = (
        postprocessing.apply(each if classes else each[:, 0])
        for each in (scores, scores.astype(np.float32))
    )
    for name, values in singles.items():
        np.testing.assert_array_equal(halves[name], values)


def test_a_logit_becomes_a_probability_and_a_decision() -> None:
    postprocessing = Postprocessing(label="late", threshold=0.4)
    outputs = postprocessing.apply(np.array([0.0, -1.0, 100.0], dtype=np.float32))
    np.testing.assert_allclose(outputs["probability"], [0.5, 0.26894143, 1.0], rtol=1e-6)
    assert outputs["late"].tolist() == [True, False, True]
    with pytest.raises(ValueError, match=r"threshold is 1\.0, not between 0 and 1"):
        Postprocessing(label="late", threshold=1.0)


def test_logits_of_several_classes_become_their_probabilities() -> None:
    postprocessing = Postprocessing(label="fruit", classes=("fig", "kiwi", "plum"))
    outputs = postprocessing.apply(np.array([[0.0, 0.0, 1.0], [50.0, 0.0, -50.0]], np.float32))
    np.testing.assert_allclose(outputs["probabilities"][0], [0.2119416, 0.2119416, 0.5761169], 1e-6)
    np.testing.assert_allclose(outputs["probability"], [0.5761169, 1.0])
    assert outputs["fruit"].tolist() == ["plum", "fig"]
    assert Postprocessing.from_dict(postprocessing.to_dict()) == postprocessing
    assert "classes" not in Postprocessing(label="late").to_dict()
    numpys = Postprocessing(label="fruit", classes=np.array(["fig", "kiwi", "plum"]))  # type: ignore[arg-type]
    assert numpys == postprocessing


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"classes": ("fig",)}, "there are 1 classes; give 2 to 256"),
        ({"classes": tuple(range(257))}, "there are 257 classes"),
        ({"classes": ("fig", 1)}, "classes 'fig' and 1 are not of one type"),
        ({"classes": (True, False)}, "class True is no name and no whole number"),
        ({"classes": ("fig", "plum", "fig")}, "class 'fig' is given twice"),
        ({"classes": (1, 2**53)}, "class 9007199254740992 is beyond"),
        ({"classes": ("a", "b"), "reads": "number"}, "a number is of no class"),
        ({"classes": ("a", "b"), "threshold": 0.4}, "the likeliest is said: leave it out"),
        ({"classes": ("a", "b"), "label": "probability"}, "the label is called 'probability'"),
    ],
)
def test_classes_that_no_model_can_say_are_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Postprocessing(**{"label": "fruit", **values})


def test_numbers_of_one_matrix_encode_like_columns_of_their_own() -> None:
    names = ("a", "b", "c")
    matrix = np.array([[1.0, 2.0, np.nan], [5.0, 5.0, 5.0], [np.nan, 0.0, 1e3]])
    columns = dict(zip(names, matrix, strict=True))
    features = tuple(Feature(name=name, kind="number", max_missing=0.5) for name in names)
    fitted = Preprocessing.fit(features, columns)
    together = fitted.transform(GroupedColumns(_layout(names), [matrix], 3))
    np.testing.assert_array_equal(together, fitted.transform(columns))
    turned = GroupedColumns(_layout(names[::-1]), [matrix[::-1]], 3)
    np.testing.assert_array_equal(together, fitted.transform(turned))


def _layout(names: tuple[str, ...]) -> Layout:
    return Layout([(names, np.dtype(float))])
