"""The contract every format keeps, on models of the libraries whose models it holds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from raymlops.errors import ModelError, UntrustedError
from raymlops.models import (
    Artifact,
    format_named,
    inspect_model,
    load_model,
    write_model,
)
from tests.models.fitted import fitted
from tests.models.saved import CASES, FIRST, MODELS, NAMES, everything, saved


@pytest.mark.parametrize(("name", "model"), CASES)
def test_a_model_comes_back_and_predicts_the_same(name: str, model: str, tmp_path: Path) -> None:
    kind, source = format_named(name), fitted(model)
    path = tmp_path / f"model{kind.suffixes[0]}"
    write_model(saved(name, model), path)
    outputs = load_model(path, recorded=everything)(source.rows)
    assert outputs.shape == source.predictions.shape
    # Other batch sizes sum float32 in another order than one call over all rows.
    slack = 1e-9 if kind.tolerance == 0 and "torch" not in kind.packages else 1e-6
    np.testing.assert_allclose(
        outputs,
        source.predictions,
        rtol=max(kind.tolerance, slack),
        atol=max(kind.tolerance, slack),
    )


@pytest.mark.parametrize("name", NAMES)
def test_one_row_is_answered_like_many(name: str) -> None:
    source, artifact = fitted(FIRST[name]), saved(name, FIRST[name])
    predict = format_named(name).load(artifact, recorded=everything)
    np.testing.assert_allclose(predict(source.rows[:1]), source.predictions[:1], atol=1e-4)


@pytest.mark.parametrize(("name", "model"), CASES)
def test_no_rows_get_no_answers_of_the_same_width(name: str, model: str) -> None:
    """What scikit-learn fitted raised over them."""
    rows = fitted(model).rows
    ask = format_named(name).load(saved(name, model), recorded=everything)
    some, none = ask(rows[:2]), ask(rows[:0])
    assert (none.shape, none.dtype) == ((0, *some.shape[1:]), some.dtype)


@pytest.mark.parametrize("name", NAMES)
def test_what_is_of_another_format_is_refused(name: str) -> None:
    kind, own = format_named(name), saved(name, FIRST[name])
    foreign = {other: saved(other, FIRST[other]).data for other in NAMES if other != name}
    if name == "joblib":
        del foreign["pickle"]  # joblib reads pickles: a joblib file without arrays is one
    foreign |= {"nothing": b"", "zeros": bytes(4096), "text": b"not a model\n"}
    for other, data in foreign.items():
        strange = Artifact(format=name, data=data, architecture=own.architecture)
        with pytest.raises(ModelError) as refused:
            kind.load(strange, recorded=everything)
        assert name.split("_")[0] in str(refused.value), other


@pytest.mark.parametrize("name", NAMES)
def test_a_file_that_is_cut_short_is_refused(name: str) -> None:
    kind, whole = format_named(name), saved(name, FIRST[name])
    for length in (1, 10, len(whole.data) // 2, len(whole.data) - 1):
        cut = Artifact(format=name, data=whole.data[:length], architecture=whole.architecture)
        with pytest.raises(ModelError):
            kind.load(cut, recorded=everything)


@pytest.mark.parametrize("name", NAMES)
def test_what_can_run_code_needs_a_recorded_digest(name: str) -> None:
    kind, artifact = format_named(name), saved(name, FIRST[name])
    code = {"pickle", "joblib", "torchscript", "torch_export", "python"}
    assert kind.runs_code == (name in code)
    if not kind.runs_code:
        kind.load(artifact, recorded=lambda _: False)
        return
    with pytest.raises(UntrustedError, match=artifact.digest):
        kind.load(artifact, recorded=lambda _: False)
    with pytest.raises(UntrustedError):
        kind.load(artifact, recorded=lambda digest: digest == "0" * 64)
    kind.load(artifact, recorded=lambda digest: digest == artifact.digest)


@pytest.mark.parametrize("name", NAMES)
def test_a_model_it_cannot_hold_is_refused(name: str) -> None:
    kind = format_named(name)
    for other in sorted(MODELS.keys() - kind.kinds):
        source = fitted(MODELS[other][0])
        with pytest.raises(ModelError, match=f"{name} holds models of .*, not"):
            kind.save(source.model, source.rows[:2])
    with pytest.raises(ModelError, match=r"builtins\.dict is no model of scikit-learn"):
        kind.save({}, np.zeros((2, 2), np.float32))


@pytest.mark.parametrize("name", NAMES)
def test_it_is_described_without_being_loaded(name: str, monkeypatch: Any) -> None:
    kind, artifact = format_named(name), saved(name, FIRST[name])
    monkeypatch.setattr(type(kind), "_restore", None)
    found = inspect_model(artifact)
    assert (found.format, found.digest) == (name, artifact.digest)
    assert found.size_bytes == len(artifact.data) + len(artifact.architecture or b"")
    assert (found.doubt is None) == (not kind.runs_code)


def test_facts_are_those_of_the_model() -> None:
    onnx = inspect_model(saved("onnx", "torch classifier")).facts
    assert onnx.num_parameters == 64 * 32 + 32 + 32 * 10 + 10  # the normalisation is folded in
    assert onnx.opset is not None
    assert [(t.datatype, t.shape) for t in onnx.inputs] == [("FP32", (None, 64))]
    assert [(t.datatype, t.shape) for t in onnx.outputs] == [("FP32", (None, 10))]
    for name in ("torch_export", "safetensors"):
        facts = inspect_model(saved(name, "torch classifier")).facts
        assert facts.num_parameters == 64 * 32 + 32 + 2 * 32 + 32 * 10 + 10
        assert [t.shape for t in facts.inputs + facts.outputs] == [(None, 64), (None, 10)]
    for name in ("keras", "keras_weights"):
        facts = inspect_model(saved(name, "keras classifier")).facts
        assert facts.num_parameters == 64 * 16 + 16 + 4 * 16 + 16 * 10 + 10
        assert [t.shape for t in facts.inputs] == [(None, 64)]
        assert "keras.layers.Dense" in facts.imports
    for name in ("pickle", "joblib", "skops"):
        assert (
            "sklearn.preprocessing._data.StandardScaler"
            in inspect_model(saved(name, "scaled logistic")).facts.imports
        )
    pmml = inspect_model(saved("pmml", "scaled softmax")).facts
    assert [t.name for t in pmml.inputs] == [f"x{index}" for index in range(13)]
    assert [t.shape for t in pmml.outputs] == [(None, 3)]


def test_a_missing_package_names_the_extra(monkeypatch: Any) -> None:
    artifact = saved("skops", "scaled logistic")
    monkeypatch.setattr(type(format_named("skops")), "packages", ("no-such-package",))
    with pytest.raises(
        ModelError, match=r"needs no-such-package.*pip install 'raymlops\[formats]'"
    ):
        format_named("skops").load(artifact, recorded=everything)
