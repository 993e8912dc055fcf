"""Keras, as a graph of TensorFlow: traced once for any number of rows."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from raymlops.errors import ModelError
from raymlops.models import Artifact, Predictor, Recorded, format_named
from raymlops.models.autograph import keep_autograph_in_memory
from raymlops.models.predictors import Matrix, flat
from raymlops.serve.engines.base import Engine
from raymlops.serve.engines.settings import EngineSettings


class KerasEngine(Engine):
    """A call of a Keras model interprets its layers each time; the graph does not."""

    name = "keras"
    formats = frozenset({"keras", "keras_weights"})

    def load(
        self, artifact: Artifact, settings: EngineSettings, *, recorded: Recorded
    ) -> Predictor:
        import keras

        model = format_named(artifact.format).restore(artifact, recorded=recorded)
        if keras.backend.backend() != "tensorflow":
            raise ModelError(
                f"Keras runs on {keras.backend.backend()} here, the engine needs TensorFlow: set "
                "KERAS_BACKEND=tensorflow"
            )
        keep_autograph_in_memory()
        return _Graph(model, _device(settings))


def _device(settings: EngineSettings) -> str:
    import tensorflow as tf

    has_gpu = bool(tf.config.list_physical_devices("GPU"))
    if settings.device == "cuda" and not has_gpu:
        raise ModelError("device is cuda, TensorFlow sees no GPU here: set device to cpu")
    return "/GPU:0" if has_gpu and settings.device != "cpu" else "/CPU:0"


class _Graph:
    def __init__(self, model: Any, device: str) -> None:
        import tensorflow as tf

        self._device = device
        (inputs,) = model.inputs
        self._dtype = inputs.dtype
        spec = tf.TensorSpec((None, *inputs.shape[1:]), inputs.dtype)
        call = tf.function(lambda rows: model(rows, training=False), input_signature=[spec])
        self._call = call.get_concrete_function()

    def __call__(self, matrix: Matrix, /) -> NDArray[Any]:
        import tensorflow as tf

        with tf.device(self._device):
            return flat(np.asarray(self._call(tf.constant(matrix, self._dtype))))
