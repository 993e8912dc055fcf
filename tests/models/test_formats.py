"""The contract every format keeps, on models of the libraries whose models it holds."""

from __future__ import annotations

import importlib
import warnings
from collections import OrderedDict
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.ensemble import (
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    IsolationForest,
)

from raymlops.errors import IntegrityError, ModelError, UntrustedError
from raymlops.models import (
    FORMATS,
    Artifact,
    format_named,
    format_of,
    inspect_model,
    load_model,
    read_model,
    write_model,
)
from raymlops.models.predictors import predictor_of
from tests.disks import output_on_small_disk
from tests.models.fitted import fitted

NAMES = [each.name for each in FORMATS]
MODELS = {
    "sklearn": ("scaled logistic", "scaled softmax", "scaled ridge", "tree"),
    "torch": ("torch classifier", "torch regressor", "torch image"),
    "keras": ("keras classifier", "keras regressor"),
    "python": ("python rule",),
}
CASES = [
    (each.name, model) for each in FORMATS for kind in sorted(each.kinds) for model in MODELS[kind]
]
FIRST = {name: next(model for case, model in CASES if case == name) for name in NAMES}


def everything(_digest: str) -> bool:
    return True


@cache
def saved(name: str, model: str) -> Artifact:
    source = fitted(model)
    return format_named(name).save(source.model, source.rows[:200])


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
def test_a_changed_byte_is_refused(name: str, tmp_path: Path) -> None:
    artifact = saved(name, FIRST[name])
    path = tmp_path / f"model{format_named(name).suffixes[0]}"
    write_model(artifact, path)
    assert read_model(path, digest=artifact.digest) == artifact
    for part in tmp_path.iterdir():
        whole = part.read_bytes()
        middle = len(whole) // 2
        part.write_bytes(whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :])
        with pytest.raises(IntegrityError, match=f"not {artifact.digest}; refused"):
            load_model(path, digest=artifact.digest, recorded=everything)
        part.write_bytes(whole)


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


def test_formats_are_found_by_suffix() -> None:
    suffixes = [suffix for each in FORMATS for suffix in each.suffixes]
    assert len(set(suffixes)) == len(suffixes)
    for each in FORMATS:
        assert format_named(each.name) is each
        for suffix in each.suffixes:
            assert format_of(Path(f"a.b{suffix}")) is each
    with pytest.raises(ModelError, match=r"has no suffix of a model; name the format or use \.pkl"):
        format_of(Path("model.bin"))
    with pytest.raises(ModelError, match="there is no format 'onx'; there are pickle, joblib"):
        format_named("onx")


def test_a_missing_file_or_architecture_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"onnx model .*none\.onnx cannot be read"):
        read_model(tmp_path / "none.onnx")
    write_model(saved("safetensors", "torch classifier"), tmp_path / "net.safetensors")
    (tmp_path / "net.architecture.json").unlink()
    with pytest.raises(ModelError, match=r"net\.architecture\.json"):
        read_model(tmp_path / "net.safetensors")


def test_a_full_disk_is_named_and_nothing_half_written_stays(tmp_path: Path) -> None:
    script = """
import sys, os
from pathlib import Path
from raymlops.errors import StorageError
from raymlops.models import Artifact, write_model
try:
    write_model(Artifact(format="onnx", data=bytes(8 << 20)), Path(sys.argv[1], "model.onnx"))
except StorageError as error:
    print(error)
print(os.listdir(sys.argv[1]))
"""
    error, left = output_on_small_disk(script, tmp_path)
    assert "model.onnx cannot be written: [Errno 28] No space left" in error
    assert left == "[]"


def test_a_missing_package_names_the_extra(monkeypatch: Any) -> None:
    artifact = saved("skops", "scaled logistic")
    monkeypatch.setattr(type(format_named("skops")), "packages", ("no-such-package",))
    with pytest.raises(
        ModelError, match=r"needs no-such-package.*pip install 'raymlops\[formats]'"
    ):
        format_named("skops").load(artifact, recorded=everything)


@pytest.mark.parametrize("name", ["keras", "keras_weights"])
def test_keras_graphs_with_branches_come_back(name: str) -> None:
    rows = fitted("keras classifier").rows
    import keras

    image = keras.Input((64,))
    shaped = keras.layers.Reshape((8, 8, 1))(image)
    kernel = keras.regularizers.L2(0.01)
    convolved = keras.layers.Conv2D(2, 3, activation="relu", kernel_regularizer=kernel)(shaped)
    pooled = keras.layers.GlobalAveragePooling2D()(convolved)
    joined = keras.layers.Concatenate()([pooled, keras.layers.Dense(4)(image)])
    model = keras.Model(image, keras.layers.Dense(3, activation="softmax")(joined))
    artifact = format_named(name).save(model, rows[:50])
    predict = format_named(name).load(artifact, recorded=lambda _: False)
    wanted = model.predict(rows[:50], batch_size=50, verbose=0)
    np.testing.assert_allclose(predict(rows[:50]), wanted, atol=1e-6)


@pytest.mark.parametrize(
    "estimator", [HistGradientBoostingClassifier, HistGradientBoostingRegressor]
)
def test_histogram_gradient_boosting_becomes_onnx_with_missing_values(estimator: Any) -> None:
    # skl2onnx wrote a truth value into every leaf, which protobuf 7 does not take.
    rows = fitted("scaled ridge").rows.copy()
    target = np.arange(len(rows)) % 2
    rows[:, 0] += target
    rows[::7, 0] = np.nan
    model = estimator(max_iter=5, random_state=0).fit(rows, target)
    artifact = format_named("onnx").save(model, rows[:50])
    np.testing.assert_allclose(
        format_named("onnx").load(artifact, recorded=lambda _: False)(rows),
        predictor_of(model)(rows),
        atol=1e-5,
    )


def test_a_rule_may_hold_dataclasses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Python looks a dataclass with postponed annotations up by the name of its module.
    (tmp_path / "held_limits.py").write_text(
        "from __future__ import annotations\n"
        "from dataclasses import dataclass\n"
        "@dataclass\n"
        "class Limits:\n"
        "    low: float = 2.0\n"
        "def predict(matrix):\n"
        "    return matrix[:, 0] - Limits().low\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    kind, rule = format_named("python"), importlib.import_module("held_limits")
    rows = np.array([[3.0], [5.0]], np.float32)
    artifact = kind.save(rule.predict, rows)
    np.testing.assert_array_equal(kind.load(artifact, recorded=everything)(rows), [1.0, 3.0])


def test_a_detector_of_outliers_becomes_onnx() -> None:
    """It asks for operators that skl2onnx does not know in their newest version."""
    rows = fitted("tree").rows
    forest = IsolationForest(n_estimators=10, random_state=0).fit(rows)
    predict = format_named("onnx").load(
        format_named("onnx").save(forest, rows[:50]), recorded=lambda _: False
    )
    np.testing.assert_allclose(predict(rows), forest.decision_function(rows), atol=1e-4)


def test_a_keras_model_that_normalizes_becomes_onnx() -> None:
    """The mean and the variance became inputs of the graph."""
    rows = fitted("keras classifier").rows
    import keras

    keras.utils.set_random_seed(0)
    normalization = keras.layers.Normalization()
    normalization.adapt(rows)
    inner = keras.Sequential([keras.Input((64,)), normalization])
    model = keras.Sequential([keras.Input((64,)), inner, keras.layers.Dense(3)])
    wanted = model(rows).numpy()
    artifact = format_named("onnx").save(model, rows[:50])
    predict = format_named("onnx").load(artifact, recorded=lambda _: False)
    np.testing.assert_allclose(predict(rows), wanted, atol=1e-4)
    np.testing.assert_array_equal(model(rows).numpy(), wanted)  # it was left as it was


def test_a_keras_model_of_several_outputs_is_refused() -> None:
    """The outputs were taken for rows: seven of these gave [2, 7, 4]."""
    rows = fitted("keras classifier").rows[:7]
    import keras

    image = keras.Input((64,))
    model = keras.Model(image, [keras.layers.Dense(4)(image), keras.layers.Dense(4)(image)])
    for name in ("keras", "keras_weights"):
        with pytest.raises(ModelError, match="the model gives list, not one tensor"):
            format_named(name).save(model, rows)


def _doubling() -> Any:
    """2 x - 3"""
    layer = torch.nn.Linear(1, 1)
    layer.weight.data.fill_(2.0)
    layer.bias.data.fill_(-3.0)
    return layer


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("weights", [False, True], ids=["relu", "relu and weights"])
def test_a_layer_that_occurs_twice_is_written_twice(nested: bool, weights: bool) -> None:
    # The second was dropped, and parity passed on rows to which it made no difference.
    relu, first = torch.nn.ReLU(), _doubling()
    layers = (first, relu, first if weights else _doubling(), relu)
    model = torch.nn.Sequential(*layers)
    if nested:
        model = torch.nn.Sequential(model)
    kind = format_named("safetensors")
    artifact = kind.save(model, np.array([[4.0], [5.0]], np.float32))
    predict = kind.load(artifact, recorded=lambda _: False)
    rows = np.array([[0.0], [2.0], [3.0], [4.0]], np.float32)
    np.testing.assert_array_equal(predict(rows), [0.0, 0.0, 3.0, 7.0])


def test_layers_with_names_and_norms_without_bias_come_back() -> None:
    # An OrderedDict's names were looked for under numbers, a LayerNorm's bias where there was none.
    layers = {"first": torch.nn.Linear(3, 4), "norm": torch.nn.LayerNorm(4, bias=False)}
    model = torch.nn.Sequential(
        OrderedDict(inner=torch.nn.Sequential(OrderedDict(layers)), last=torch.nn.Linear(4, 1))
    )
    rows = np.arange(12, dtype=np.float32).reshape(4, 3)
    kind = format_named("safetensors")
    predict = kind.load(kind.save(model, rows), recorded=lambda _: False)
    with torch.no_grad():
        wanted = model(torch.from_numpy(rows)).numpy()[:, 0]
    np.testing.assert_array_equal(predict(rows), wanted)


@pytest.mark.parametrize("name", ["safetensors", "torchscript", "torch_export", "onnx"])
def test_a_module_that_is_saved_learns_on(name: str) -> None:
    # It was left in evaluation mode: without dropout from then on, its batch norms frozen.
    model = torch.nn.Sequential(
        torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4).eval(), torch.nn.Dropout(0.5)
    )
    model(torch.ones(2, 3))
    format_named(name).save(model, np.ones((4, 3), np.float32))
    assert [each.training for each in model.modules()] == [True, True, False, True]


class _Branching(torch.nn.Module):
    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        if float(rows.abs().max()) > 10:
            rows = rows.clamp(-10, 10)
        return rows.sum(1)


class _CountingRows(torch.nn.Module):
    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        return rows.reshape(len(rows), -1).sum(1)


class _CountingInSilence(_CountingRows):
    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return super().forward(rows)


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")  # as they pass by in a service
@pytest.mark.parametrize(
    ("module", "message"),
    [
        (_Branching(), r"a trace keeps .*torch\.where.*test_formats\.py:\d+: .*Python float"),
        (_CountingRows(), r"a trace keeps .*x\.shape.*test_formats\.py:\d+: Using len"),
        (_CountingInSilence(), r"cannot hold this _CountingInSilence: .* failed"),
    ],
    ids=lambda each: type(each).__name__,
)
def test_a_trace_that_would_keep_something_of_its_rows_is_refused(
    module: torch.nn.Module, message: str
) -> None:
    # torch only warned: one row more, or one beyond the branch, was answered wrongly or not at all.
    with pytest.raises(ModelError, match=f"^torchscript.*{message}"):
        format_named("torchscript").save(module, fitted("scaled ridge").rows[:50])


@pytest.mark.parametrize("module", [_Branching(), _CountingRows()], ids=["branch", "rows"])
def test_torch_export_refuses_what_depends_on_its_rows_itself(module: torch.nn.Module) -> None:
    with pytest.raises(ModelError, match="torch_export cannot hold this _"):
        format_named("torch_export").save(module, fitted("scaled ridge").rows[:50])


def test_shapes_that_follow_the_rows_are_traced() -> None:
    class Following(torch.nn.Module):
        def forward(self, rows: torch.Tensor) -> torch.Tensor:
            return rows.reshape(rows.shape[0], -1).sum(1) + torch.zeros(rows.shape[0])

    rows = fitted("scaled ridge").rows
    artifact = format_named("torchscript").save(Following(), rows[:50])
    predict = format_named("torchscript").load(artifact, recorded=everything)
    for count in (1, 7):
        np.testing.assert_allclose(predict(rows[:count]), rows[:count].sum(1), atol=1e-5)
