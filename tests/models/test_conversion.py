from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from raymlops.errors import DataError, ModelError, ParityError, UntrustedError
from raymlops.models import (
    Artifact,
    convert,
    format_named,
    load_model,
    read_sample,
    verify_model,
)
from tests.models.fitted import fitted

WAYS = [
    ("pickle", "joblib", "tree"),
    ("joblib", "pickle", "tree"),
    ("pickle", "onnx", "scaled logistic"),
    ("pickle", "pmml", "scaled logistic"),
    ("joblib", "skops", "scaled ridge"),
    ("skops", "pickle", "scaled ridge"),
    ("safetensors", "torch_export", "torch regressor"),
    ("safetensors", "onnx", "torch regressor"),
    ("safetensors", "torchscript", "torch regressor"),
    ("keras", "keras_weights", "keras regressor"),
    ("keras_weights", "keras", "keras regressor"),
]


def everything(_digest: str) -> bool:
    return True


def nothing(_digest: str) -> bool:
    return False


@pytest.mark.parametrize(("source", "target", "model"), WAYS)
def test_a_converted_model_predicts_the_same(source: str, target: str, model: str) -> None:
    original = fitted(model)
    sample = original.rows[:100]
    artifact = format_named(source).save(original.model, sample)
    converted = convert(artifact, format_named(target), sample, recorded=everything)
    assert converted.format == target
    outputs = format_named(target).load(converted, recorded=everything)(original.rows)
    np.testing.assert_allclose(outputs, original.predictions, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("source", "target", "model", "problem"),
    [
        ("pmml", "onnx", "scaled ridge", "pmml cannot become onnx: it holds a model that can be "),
        ("onnx", "pmml", "scaled ridge", "onnx cannot become pmml: it holds a model that can be "),
        ("skops", "keras", "scaled ridge", "a model of sklearn, which can become pickle, joblib, "),
        ("safetensors", "pickle", "torch regressor", "can become onnx, torchscript, torch_export"),
        ("torchscript", "onnx", "torch regressor", "torchscript cannot become onnx: it holds a "),
    ],
)
def test_where_there_is_no_way_it_is_told(
    source: str, target: str, model: str, problem: str
) -> None:
    original = fitted(model)
    artifact = format_named(source).save(original.model, original.rows[:9])
    with pytest.raises(ModelError, match=problem):
        convert(artifact, format_named(target), original.rows[:9], recorded=everything)


def test_what_can_run_code_is_not_loaded_to_convert_it() -> None:
    original = fitted("scaled ridge")
    artifact = format_named("pickle").save(original.model, original.rows[:9])
    with pytest.raises(UntrustedError):
        convert(artifact, format_named("onnx"), original.rows[:9], recorded=nothing)


def test_a_row_that_is_predicted_otherwise_is_named() -> None:
    """ONNX reads float32: values no float32 holds apart fall on the same side of a threshold."""
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.tree import DecisionTreeRegressor

    rows = np.array([[1e8], [1e8 + 8], [1e8 + 16], [1e8 + 24]], np.float32)
    scaled = make_pipeline(StandardScaler(), DecisionTreeRegressor(random_state=0))
    scaled.fit(rows.astype(np.float64), [0.0, 1.0, 2.0, 3.0])
    artifact = format_named("pickle").save(scaled, rows)
    with pytest.raises(
        ParityError, match=r"rows differ, the most row \d: onnx gives \d, the original \d; they may"
    ):
        convert(artifact, format_named("onnx"), rows, recorded=everything)


def test_samples_are_read_in_the_order_of_their_columns(tmp_path: Path) -> None:
    frame = pd.DataFrame({"b": [1, 2, 3], "a": [0.5, 1.5, 2.5], "c": [True, False, True]})
    frame.to_csv(tmp_path / "rows.csv", index=False)
    frame.to_parquet(tmp_path / "rows.parquet")
    wanted = np.array([[1, 0.5, 1], [2, 1.5, 0], [3, 2.5, 1]], np.float32)
    for name in ("rows.csv", "rows.parquet"):
        sample = read_sample(tmp_path / name)
        assert sample.dtype == np.float32
        np.testing.assert_array_equal(sample, wanted)


def test_samples_that_cannot_be_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    with pytest.raises(DataError, match="cannot be read"):
        read_sample(path)
    path.write_text("a,b\n1,x\n2,y\n")
    with pytest.raises(DataError, match="b hold no numbers"):
        read_sample(path)
    path.write_text("a,b\n1,2\n")
    with pytest.raises(DataError, match="has 1 rows; parity needs at least two"):
        read_sample(path)
    path = tmp_path / "rows.parquet"
    path.write_bytes(b"no parquet")
    with pytest.raises(DataError, match="cannot be read"):
        read_sample(path)


def test_a_verified_model_was_asked(tmp_path: Path) -> None:
    original = fitted("scaled logistic")
    artifact = format_named("onnx").save(original.model, original.rows[:9])
    found = verify_model(artifact, original.rows[:20], recorded=nothing)
    assert (found.num_rows, found.output_shape, found.recorded) == (20, (2,), False)
    with pytest.raises(ModelError, match=r"onnx does not take a matrix \[2, 3]"):
        verify_model(artifact, np.zeros((2, 3), np.float32), recorded=nothing)
    rows = original.rows[:3].copy()
    rows[1] = np.nan
    with pytest.raises(ModelError, match=r"onnx gives .*nan.* for row 1"):
        verify_model(artifact, rows, recorded=nothing)
    cut = Artifact(format="onnx", data=artifact.data[:50])
    with pytest.raises(ModelError):
        verify_model(cut, recorded=nothing)
    with pytest.raises(ModelError):
        load_model(tmp_path / "none.onnx")
