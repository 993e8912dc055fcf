"""Models of images and texts are asked with tensors, and answer as they did."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.ensemble import RandomForestClassifier
from torch import nn

from raymlops.errors import DataError, ModelError, SignatureError
from raymlops.models import (
    PROBABILITIES,
    Artifact,
    Bundle,
    Postprocessing,
    export,
    format_named,
)
from raymlops.operate import Workspace, register_model
from raymlops.serve.engines import BundleRunner, EngineSettings
from raymlops.serve.offline.predicting import predict_table

DIGITS = load_digits()
PIXELS = (DIGITS.images[:600] * 15).astype(np.uint8).reshape(-1, 1, 8, 8)
DIGIT = Postprocessing(label="digit", classes=tuple(range(10)))
RNG = np.random.default_rng(0)
TEXTS = [RNG.integers(1, 50, RNG.integers(1, 20)).tolist() for _ in range(200)]
LONG = Postprocessing(label="long")


class Scaled(nn.Module):
    """Logits [rows, 10] of pixels [rows, 1, 8, 8]."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.LazyLinear(10))
        self(torch.zeros(1, 1, 8, 8, dtype=torch.uint8))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        outputs: torch.Tensor = self.layers(x.float() / 255)
        return outputs


class Bag(nn.Module):
    """Logits [rows] of tokens [rows, positions], of which 0 are none."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embedding, self.head = nn.Embedding(50, 8, padding_idx=0), nn.Linear(8, 1)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        outputs: torch.Tensor = self.head(self.embedding(tokens).sum(dim=1))[:, 0]
        return outputs


def images(pixels: np.ndarray = PIXELS) -> pa.Table:
    column = pa.FixedShapeTensorArray.from_numpy_ndarray(pixels)
    return pa.table({"image": column, "digit": DIGITS.target[: len(pixels)]})


def texts(**columns: Any) -> pa.Table:
    tokens = pa.array(TEXTS, pa.list_(pa.int64()))
    return pa.table({"tokens": tokens, "long": [len(each) > 10 for each in TEXTS], **columns})


def registered(
    workspace: Workspace, name: str, model: Artifact, rows: pa.Table, **more: Any
) -> Any:
    version = register_model(workspace, name, model, rows, **more)
    return Bundle.of_version(workspace.store, version)


def of_images() -> Artifact:
    return Artifact(format="onnx", data=export(Scaled(), PIXELS[:20]))


def of_texts() -> Artifact:
    padded = np.zeros((20, 20), np.int64)
    for row, each in enumerate(TEXTS[:20]):
        padded[row, : len(each)] = each
    return Artifact(format="onnx", data=export(Bag(), padded, any_length=True))


def test_a_model_of_images_answers_as_it_did(workspace: Workspace) -> None:
    """Columns were numbers alone."""
    bundle = registered(workspace, "digits", of_images(), images(), postprocessing=DIGIT)
    (field,) = bundle.signature.inputs
    assert (field.name, field.datatype, field.shape) == ("image", "UINT8", (1, 8, 8))
    wanted = Scaled()(torch.from_numpy(PIXELS)).softmax(dim=1).detach().numpy()
    found = bundle.predict({"image": PIXELS.astype(np.float64)})[PROBABILITIES]
    np.testing.assert_allclose(found, wanted, atol=1e-5)
    offline = predict_table(bundle, images(), prefix="said_")["said_probabilities"]
    np.testing.assert_allclose(np.array(offline.to_pylist()), found, atol=1e-7)
    assert predict_table(bundle, images()[:0], prefix="said_").num_rows == 0
    assert bundle.check_answers() == 8
    assert [each.name for each in bundle.profile.bins][:2] == ["image norm", "image direction 1"]
    wrong = PIXELS[:5].astype(np.float64)
    wrong[3, 0, 2, 1] = 256
    with pytest.raises(
        SignatureError, match=r"row 3 has 256 at \[0, 2, 1\]; it must be at most 25"
    ):
        bundle.predict({"image": wrong})


@pytest.mark.parametrize("format", ["torchscript", "torch_export"])
def test_other_formats_hold_models_of_images(workspace: Workspace, format: str) -> None:
    model = format_named(format).save(Scaled(), PIXELS[:20])
    workspace.ledger.trust(model.digest, who="ann", why="mine")
    bundle = registered(workspace, "digits", model, images(), postprocessing=DIGIT)
    wanted = Scaled()(torch.from_numpy(PIXELS)).softmax(dim=1).detach().numpy()
    found = bundle.predict({"image": PIXELS.astype(np.float64)})[PROBABILITIES]
    np.testing.assert_allclose(found, wanted, atol=1e-5)


def test_texts_are_of_any_length(workspace: Workspace) -> None:
    bundle = registered(workspace, "texts", of_texts(), texts(), postprocessing=LONG)
    (field,) = bundle.signature.inputs
    assert (field.datatype, field.shape) == ("INT64", (-1,))
    for each in TEXTS[:5]:
        said = bundle.predict({"tokens": np.array([each], np.float64)})["probability"]
        wanted = Bag()(torch.tensor([each])).sigmoid().item()
        assert said == pytest.approx(wanted, abs=1e-5)
    assert len(predict_table(bundle, texts(), prefix="said_")) == 200
    assert bundle.profile.bins[0].name == "tokens length"
    assert bundle.check_answers() == 8


def test_tokens_outside_the_vocabulary_are_refused(workspace: Workspace) -> None:
    """They were an internal error, and below 0 the wrong word."""
    told = {"postprocessing": LONG, "bounds": {"tokens": (0, 49)}}
    bundle = registered(workspace, "texts", of_texts(), texts(), **told)
    for token, message in ((50, "it must be at most 49"), (-1, "it must be at least 0")):
        with pytest.raises(SignatureError, match=message):
            bundle.predict({"tokens": np.array([[1.0, token]])})
    with pytest.raises(DataError, match="'tokens' holds 0 to 49, and its bounds are 0 and 20"):
        register_model(
            workspace, "m", of_texts(), texts(), postprocessing=LONG, bounds={"tokens": (0, 20)}
        )
    with pytest.raises(ValueError, match="bounds names words; the model is asked with tokens"):
        register_model(
            workspace, "m", of_texts(), texts(), postprocessing=LONG, bounds={"words": (0, 20)}
        )


@pytest.mark.parametrize("format", ["keras", "onnx"])
def test_keras_is_asked_with_tokens_of_its_type(workspace: Workspace, format: str) -> None:
    """Its engine made a graph of floats, whatever the model took."""
    keras = pytest.importorskip("keras")
    keras.utils.set_random_seed(0)
    layers = [keras.layers.Embedding(50, 8), keras.layers.GlobalAveragePooling1D()]
    inputs = keras.layers.Input((None,), dtype="int32")
    model = keras.Sequential([inputs, *layers, keras.layers.Dense(1)])
    tokens = RNG.integers(1, 50, (20, 12)).astype(np.int32)
    model(tokens)  # as its training does
    rows = texts().set_column(0, "tokens", pa.array(TEXTS, pa.list_(pa.int32())))
    saved = format_named(format).save(model, tokens)
    bundle = registered(workspace, "texts", saved, rows, postprocessing=LONG)
    run = BundleRunner(bundle, EngineSettings())
    for length in (3, 12):
        said = run({"tokens": tokens[:, :length].astype(np.float64)})["probability"]
        logits = torch.tensor(np.asarray(model(tokens[:, :length], training=False)))
        np.testing.assert_allclose(said, logits.sigmoid()[:, 0].numpy(), atol=1e-5)


def test_a_vector_is_a_matrix_to_scikit_learn(workspace: Workspace) -> None:
    flat = DIGITS.data.astype(np.float32)
    forest = RandomForestClassifier(20, random_state=0).fit(flat[600:], DIGITS.target[600:])
    rows = pa.table({"pixels": flat[:600].tolist(), "digit": DIGITS.target[:600]})
    told = Postprocessing(label="digit", reads="probability", classes=tuple(range(10)))
    model = format_named("onnx").save(forest, flat[:20])
    bundle = registered(workspace, "forest", model, rows, postprocessing=told)
    found = bundle.predict({"pixels": flat[:600].astype(np.float64)})
    wanted = forest.predict_proba(flat[:600])
    np.testing.assert_allclose(found[PROBABILITIES], wanted, atol=1e-5)


def test_what_the_model_does_not_take_is_refused(workspace: Workspace) -> None:
    floats, two = images(PIXELS.astype(np.float32)), texts(age=np.arange(200.0))
    with pytest.raises(ModelError, match=r"does not take float32 of shape \[600, 1, 8, 8\]"):
        register_model(workspace, "m", of_images(), floats, postprocessing=DIGIT)
    with pytest.raises(
        DataError, match="have columns tokens, age: a model is asked with numbers, "
    ):
        register_model(workspace, "m", of_texts(), two, postprocessing=LONG)
    assert workspace.ledger.runs.list() == []
