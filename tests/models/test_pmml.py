"""PMML against scikit-learn, against PMML4S on a Java machine, and as nyoka writes it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import (
    ExtraTreesRegressor,
    GradientBoostingClassifier,
    GradientBoostingRegressor,
    HistGradientBoostingClassifier,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.linear_model import Lasso, LinearRegression, LogisticRegression
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import (
    FunctionTransformer,
    MaxAbsScaler,
    MinMaxScaler,
    OneHotEncoder,
    StandardScaler,
)
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

from raymlops.errors import ModelError, ParityError
from raymlops.models import format_named
from raymlops.models.pmml import PmmlScorer, to_pmml
from tests.models.fitted import Fitted, data, sklearn_fitted

SCALED_AND_ENCODED = ColumnTransformer(
    [
        ("scaled", Pipeline([("a", StandardScaler()), ("b", MinMaxScaler())]), [0, 1]),
        ("encoded", OneHotEncoder(handle_unknown="ignore", drop="first"), [2]),
        ("dropped", "drop", slice(3, 5)),
    ],
    remainder="passthrough",
)
MODELS: dict[str, tuple[Callable[[], Any], str]] = {
    "linear": (lambda: make_pipeline(MaxAbsScaler(), LinearRegression()), "diabetes"),
    "lasso": (lambda: Lasso(alpha=0.1), "diabetes"),
    "logistic": (lambda: make_pipeline(StandardScaler(), LogisticRegression()), "tumours"),
    "softmax": (lambda: make_pipeline(MinMaxScaler(), LogisticRegression()), "wine"),
    "columns": (
        lambda: make_pipeline(SCALED_AND_ENCODED, LogisticRegression(max_iter=5000)),
        "diabetes by sex",
    ),
    "tree": (lambda: DecisionTreeClassifier(random_state=0), "digits"),
    "tree behind a scaler": (
        lambda: make_pipeline(StandardScaler(), DecisionTreeRegressor(random_state=0)),
        "diabetes",
    ),
    "forest": (
        lambda: make_pipeline(StandardScaler(), RandomForestClassifier(10, random_state=0)),
        "wine",
    ),
    "regression forest": (lambda: RandomForestRegressor(8, random_state=0), "diabetes"),
    "extra trees": (lambda: ExtraTreesRegressor(5, max_depth=8, random_state=0), "diabetes"),
    "boosting": (lambda: GradientBoostingClassifier(n_estimators=20), "tumours"),
    "boosting of three": (
        lambda: make_pipeline(StandardScaler(), GradientBoostingClassifier(n_estimators=8)),
        "wine",
    ),
    "boosted regression": (
        lambda: GradientBoostingRegressor(n_estimators=30, learning_rate=0.3),
        "diabetes",
    ),
    "perceptron": (
        lambda: make_pipeline(
            StandardScaler(), MLPClassifier((8, 4), solver="lbfgs", random_state=0)
        ),
        "tumours",
    ),
    "perceptron of three": (
        lambda: make_pipeline(
            StandardScaler(),
            MLPClassifier((6,), activation="logistic", solver="lbfgs", random_state=0),
        ),
        "wine",
    ),
    "regression perceptron": (
        lambda: make_pipeline(
            StandardScaler(),
            MLPRegressor(
                hidden_layer_sizes=(6,), activation="tanh", solver="lbfgs", alpha=10,
                max_iter=5000, random_state=0,
            ),
        ),
        "diabetes",
    ),
}  # fmt: skip

_models: dict[str, Fitted] = {}


def model(name: str) -> Fitted:
    if name not in _models:
        make, dataset = MODELS[name]
        _models[name] = (
            _by_sex(make()) if dataset == "diabetes by sex" else sklearn_fitted(make(), dataset)
        )
    return _models[name]


def _by_sex(pipeline: Any) -> Fitted:
    """Diabetes with the sex as a category in column 2: above or below the median progression."""
    rows, target = data("diabetes")
    rows = np.column_stack([rows[:, [0, 2]], (rows[:, 1] > 0) + 1.0, rows[:, 3:]])
    rows = rows.astype(np.float32)
    pipeline.fit(rows, target > 140)
    return Fitted(
        model=pipeline, rows=rows, predictions=pipeline.predict_proba(rows.astype(np.float64))
    )


@pytest.mark.parametrize("name", MODELS)
def test_predictions_are_scikit_learns(name: str) -> None:
    source = model(name)
    scorer = PmmlScorer(to_pmml(source.model))
    np.testing.assert_allclose(scorer(source.rows), source.predictions, rtol=1e-9, atol=1e-9)


@pytest.fixture(scope="module")
def java() -> Iterator[Callable[[bytes, np.ndarray], np.ndarray]]:
    """PMML4S, a scorer written by others, asked for one row after the other.

    Not by data frames: pypmml sends those as JSON with ten decimals, which moved a forest's
    prediction by 7.4.
    """
    from pypmml import Model, PMMLContext

    def ask(document: bytes, rows: np.ndarray) -> np.ndarray:
        scorer = Model.fromString(document.decode())
        names, classes = scorer.inputNames, scorer.classes
        wanted = [f"probability_{name}" for name in classes or ()] or scorer.outputNames[:1]
        answers = [scorer.predict(dict(zip(names, map(float, row), strict=True))) for row in rows]
        return np.squeeze(np.array([[answer[name] for name in wanted] for answer in answers]))

    yield ask
    PMMLContext.shutdown()


@pytest.mark.parametrize("name", MODELS)
def test_another_scorer_reads_what_is_written(
    name: str, java: Callable[[bytes, np.ndarray], np.ndarray]
) -> None:
    source = model(name)
    answers = java(to_pmml(source.model), source.rows[::20])
    np.testing.assert_allclose(answers, source.predictions[::20], rtol=1e-9, atol=1e-9)


NYOKA = ("logistic", "tree", "forest", "boosting", "boosting of three", "perceptron of three")


@pytest.fixture(scope="module")
def by_nyoka(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], bytes]:
    """Documents that nyoka writes, in a process of its own: it puts itself on sys.path."""
    import joblib

    folder = tmp_path_factory.mktemp("nyoka")
    for name in (*NYOKA, "softmax"):
        whole = model(name).model
        pipeline = whole if isinstance(whole, Pipeline) else Pipeline([("model", whole)])
        joblib.dump(pipeline, folder / f"{name}.joblib")
    script = (
        "import sys, warnings; warnings.simplefilter('ignore')\n"
        "import joblib; from pathlib import Path; from nyoka import skl_to_pmml\n"
        "for path in Path(sys.argv[1]).glob('*.joblib'):\n"
        "    model = joblib.load(path); names = [f'x{i}' for i in range(model.n_features_in_)]\n"
        "    skl_to_pmml(model, names, 'target', str(path.with_suffix('.pmml')))\n"
    )
    subprocess.run([sys.executable, "-c", script, str(folder)], check=True, capture_output=True)
    return lambda name: (folder / f"{name}.pmml").read_bytes()


@pytest.mark.parametrize("name", NYOKA)
def test_what_another_writer_wrote_is_read(name: str, by_nyoka: Callable[[str], bytes]) -> None:
    source = model(name)
    scorer = PmmlScorer(by_nyoka(name))
    assert scorer.producer is not None
    np.testing.assert_allclose(scorer(source.rows), source.predictions, rtol=1e-6, atol=1e-6)


def test_a_file_is_scored_as_it_says_even_where_its_writer_erred(
    by_nyoka: Callable[[str], bytes], java: Callable[[bytes, np.ndarray], np.ndarray]
) -> None:
    """nyoka writes a softmax over three classes as three logistic regressions, normalised."""
    source, document = model("softmax"), by_nyoka("softmax")
    ours = PmmlScorer(document)(source.rows[::20])
    np.testing.assert_allclose(ours, java(document, source.rows[::20]), atol=1e-9)
    assert np.abs(ours - source.predictions[::20]).max() > 0.1


@pytest.mark.parametrize(
    ("estimator", "problem"),
    [
        (HistGradientBoostingClassifier(max_iter=2), "pmml cannot hold HistGradientBoostingClass"),
        (
            make_pipeline(FunctionTransformer(np.log1p), LogisticRegression(max_iter=5000)),
            "pmml cannot hold FunctionTransformer with a function",
        ),
        (
            make_pipeline(MinMaxScaler(clip=True), LogisticRegression()),
            r"pmml cannot hold MinMaxScaler\(clip=True\)",
        ),
        (
            make_pipeline(ColumnTransformer([("o", OneHotEncoder(), [0])]), LogisticRegression()),
            r"OneHotEncoder\(handle_unknown='error'\).*fit it with handle_unknown='ignore'",
        ),
        (
            GradientBoostingClassifier(n_estimators=2, loss="exponential"),
            r"GradientBoostingClassifier\(loss='exponential'\)",
        ),
    ],
)
def test_what_cannot_be_written_is_named(estimator: Any, problem: str) -> None:
    source = sklearn_fitted(estimator, "tumours")
    with pytest.raises(ModelError, match=problem):
        format_named("pmml").save(source.model, source.rows[:20])


def test_an_estimator_that_was_not_fitted_is_refused() -> None:
    with pytest.raises(ModelError, match="LinearRegression is not fitted"):
        to_pmml(LinearRegression())


BOMB = b"""<?xml version="1.0"?>
<!DOCTYPE PMML [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;">
<!ENTITY c "&b;&b;&b;&b;&b;&b;&b;&b;&b;&b;">]><PMML>&c;</PMML>"""
OUTSIDE = b"""<?xml version="1.0"?>
<!DOCTYPE PMML [<!ENTITY file SYSTEM "file:///etc/passwd">]><PMML>&file;</PMML>"""


@pytest.mark.parametrize("document", [BOMB, OUTSIDE])
def test_entities_are_refused(document: bytes) -> None:
    with pytest.raises(ModelError, match="declares a document type or entities; refused"):
        PmmlScorer(document)


DOCUMENT = """<PMML xmlns="http://www.dmg.org/PMML-4_4" version="4.4">
<DataDictionary><DataField name="x" dataType="{datatype}"/><DataField name="y"/></DataDictionary>
<{model} functionName="regression"><MiningSchema><MiningField name="x" {field}/>
<MiningField name="y" usageType="target"/></MiningSchema>{content}</{model}></PMML>"""
# The set was left out of the condition, which held for every x above 0.
IN_A_SET = """<Node><True/><Node score="1"><CompoundPredicate booleanOperator="and">
<SimplePredicate field="x" operator="greaterThan" value="0"/>
<SimpleSetPredicate field="x" booleanOperator="isIn"><Array n="1" type="int">3</Array>
</SimpleSetPredicate></CompoundPredicate></Node><Node score="2"><True/></Node></Node>"""
REGRESSION = '<RegressionTable intercept="1">{}</RegressionTable>'


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"model": "SupportVectorMachineModel"}, "SupportVectorMachineModel in <PMML>; supported"),
        ({"datatype": "string"}, "input 'x' is of type string; only numbers"),
        ({"field": 'missingValueReplacement="0"'}, "missingValueReplacement of x is not supported"),
        ({"content": REGRESSION.format('<NumericPredictor name="z" coefficient="1"/>')},
         "there is no field 'z'"),
        ({"content": REGRESSION.format('<NumericPredictor name="x" coefficient="a"/>')},
         "coefficient of <NumericPredictor> is 'a', no number"),
        ({"content": REGRESSION.format('<CategoricalPredictor name="x" value="1"/>')},
         "<CategoricalPredictor> in a regression is not supported"),
        ({"content": ""}, "a regression of 0 tables"),
        ({"model": "TreeModel", "content": IN_A_SET}, "<SimpleSetPredicate isIn> is not supported"),
    ],
)  # fmt: skip
def test_what_is_not_supported_is_named_when_it_is_loaded(
    changes: dict[str, str], problem: str
) -> None:
    parts = {
        "datatype": "double",
        "model": "RegressionModel",
        "field": "",
        "content": REGRESSION.format('<NumericPredictor name="x" coefficient="2"/>'),
    }
    good = PmmlScorer(DOCUMENT.format(**parts).encode())
    np.testing.assert_array_equal(good(np.array([[3.0], [4.0]], np.float32)), [7.0, 9.0])
    with pytest.raises(ModelError, match=problem):
        PmmlScorer(DOCUMENT.format(**{**parts, **changes}).encode())


def test_a_matrix_that_does_not_fit_is_refused() -> None:
    scorer = PmmlScorer(to_pmml(model("lasso").model))
    with pytest.raises(ModelError, match=r"matrix \[2, 3], not \[rows, 10]"):
        scorer(np.zeros((2, 3), np.float32))
    rows = np.zeros((3, 10), np.float32)
    rows[1, 4] = np.nan
    with pytest.raises(ModelError, match="row 1 of 'x4' is missing"):
        scorer(rows)


def test_a_difference_names_the_row_and_both_values(monkeypatch: Any) -> None:
    source = model("lasso")
    shifted = to_pmml(source.model).replace(b'intercept="1', b'intercept="2')
    monkeypatch.setattr("raymlops.models.formats.pmml.to_pmml", lambda _: shifted)
    with pytest.raises(
        ParityError,
        match=r"of 50 rows differ, the most row \d+.*: pmml gives .*, the original .*; they",
    ):
        format_named("pmml").save(source.model, source.rows[:50])


def test_names_of_columns_are_kept(tmp_path: Path) -> None:
    from sklearn.datasets import load_diabetes

    frame, target = load_diabetes(return_X_y=True, as_frame=True)
    fitted_on_names = Lasso(alpha=0.1).fit(frame, target)
    assert PmmlScorer(to_pmml(fitted_on_names)).inputs == tuple(frame.columns)
