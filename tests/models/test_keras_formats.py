"""Keras models whose layers are no plain chain."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from raymlops.errors import ModelError
from raymlops.models import (
    format_named,
)
from tests.models.fitted import fitted


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


@pytest.mark.parametrize("name", ["keras", "keras_weights", "onnx"])
def test_operations_between_keras_layers_come_back(name: str) -> None:
    """Each was refused, the `+` of a residual too. As onnx no model was taken that nothing had
    asked before."""
    rows = fitted("keras classifier").rows
    import keras

    image = keras.Input((64,))
    residual = image * 2.0 - 1.0 + keras.layers.Dense(64)(image)
    halves = keras.ops.relu(residual[:, ::2]) + keras.ops.cast(residual[:, 32:], "float32")
    joined = keras.ops.concatenate(
        [halves, keras.ops.mean(residual, axis=1, keepdims=True)], axis=1
    )
    model = keras.Model(image, keras.layers.Dense(3)(joined))
    artifact = format_named(name).save(model, rows[:50])
    predict = format_named(name).load(artifact, recorded=lambda _: False)
    np.testing.assert_allclose(predict(rows), model(rows).numpy(), atol=1e-4)


def test_a_keras_model_that_becomes_onnx_leaves_no_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = fitted("keras classifier")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    format_named("onnx").save(source.model, source.rows[:50])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["keras", "keras_weights"])
def test_a_keras_layer_of_ones_own_is_kept_as_onnx(name: str) -> None:
    """The refusal named no way out."""
    rows = fitted("keras classifier").rows
    import keras

    class Scaled(keras.layers.Layer):  # type: ignore[misc]  # untyped
        def __init__(self, factor: object) -> None:
            super().__init__()
            self.factor = factor

        def call(self, x: Any) -> Any:
            return x * 2.0

    for factor, problem in ((2.0, "Scaled is no part of Keras"), (object(), "non-serializable")):
        model = keras.Sequential([keras.Input((64,)), Scaled(factor), keras.layers.Dense(3)])
        with pytest.raises(ModelError, match=rf"(?s){problem}.*; as onnx it is kept by"):
            format_named(name).save(model, rows[:50])
    artifact = format_named("onnx").save(model, rows[:50])
    predict = format_named("onnx").load(artifact, recorded=lambda _: False)
    np.testing.assert_allclose(predict(rows), model(rows).numpy(), atol=1e-4)


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


@pytest.mark.parametrize("taken", [None, "int32"])
def test_a_keras_model_becomes_onnx_that_takes_rows_of_their_type(taken: str | None) -> None:
    """Tokens of type int64 were refused by ONNX Runtime, which got an input of the model's type:
    "Unexpected input data type", and no way out. Keras casts them."""
    rows = np.random.default_rng(0).integers(0, 17, (9, 8))
    import keras

    tokens = keras.Input((None,), dtype=taken)
    embedded = keras.layers.GlobalAveragePooling1D()(keras.layers.Embedding(17, 4)(tokens))
    model = keras.Model(tokens, keras.layers.Dense(3)(embedded))
    artifact = format_named("onnx").save(model, rows)
    predict = format_named("onnx").load(artifact, recorded=lambda _: False)
    np.testing.assert_allclose(predict(rows), model(rows).numpy(), atol=1e-6)


@pytest.mark.parametrize("name", ["keras", "keras_weights"])
def test_inputs_of_models_within_a_keras_model_are_not_told_as_its_own(name: str) -> None:
    rows = fitted("keras classifier").rows[:7]
    import keras

    image = keras.Input((64,), name="image")
    inner = keras.Sequential([keras.Input((64,)), keras.layers.Dense(4)])
    for model in (
        keras.Model(image, keras.layers.Dense(3)(inner(image))),
        keras.Sequential([keras.Model(image, inner(image)), keras.layers.Dense(3)]),
    ):
        model(rows)
        facts = format_named(name).facts(format_named(name).save(model, rows))
        assert [tensor.shape for tensor in facts.inputs] == [(None, 64)]


def test_a_keras_model_of_several_outputs_is_refused() -> None:
    """The outputs were taken for rows: seven of these gave [2, 7, 4]."""
    rows = fitted("keras classifier").rows[:7]
    import keras

    image = keras.Input((64,))
    model = keras.Model(image, [keras.layers.Dense(4)(image), keras.layers.Dense(4)(image)])
    for name in ("keras", "keras_weights"):
        with pytest.raises(ModelError, match="the model gives list, not one tensor"):
            format_named(name).save(model, rows)


def test_layers_that_onnx_has_no_operator_for_are_told() -> None:
    """ONNX Runtime told of an invalid model."""
    rows = fitted("keras classifier").rows[:7]
    import keras

    model = keras.Sequential([keras.Input((64,)), keras.layers.Dense(3, activation="gelu")])
    model(rows)
    with pytest.raises(ModelError, match=r"TensorFlow's Erfc, .*: keep it as keras, or"):
        format_named("onnx").save(model, rows)


def test_a_model_of_tf_keras_is_told_the_way_to_keras_3() -> None:
    """It was said to be of no library that is known."""
    model = type("Sequential", (), {"__module__": "tf_keras.src.engine.sequential"})()
    with pytest.raises(ModelError, match=r"Sequential is of tf_keras, .* with Keras 3"):
        format_named("keras").save(model, np.zeros((2, 2), np.float32))
