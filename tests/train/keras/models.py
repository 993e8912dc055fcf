"""Small Keras models and real data, made by name in whatever process trains them."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from sklearn.datasets import load_digits

from raymlops.data.loading import ArraySource


def mlp(width: int = 32) -> Any:
    keras = tf.keras  # Keras 3, or tf_keras where TF_USE_LEGACY_KERAS is 1
    return keras.Sequential(
        [
            keras.layers.Input((64,)),
            keras.layers.Dense(width, activation="relu", kernel_regularizer="l2"),
            keras.layers.Dense(10),
        ]
    )


def spare() -> Any:
    """With weights that nothing flows through."""
    keras = tf.keras

    class Spare(keras.layers.Layer):  # type: ignore[misc, name-defined]  # untyped
        def build(self, shape: Any) -> None:
            self.spare = self.add_weight(shape=(10,), initializer="ones", name="spare")

        def call(self, x: Any) -> Any:
            return x

    return keras.Sequential([keras.layers.Input((64,)), keras.layers.Dense(10), Spare()])


def lengths() -> Any:
    """Rows to their lengths; a row of zeros has one, and a gradient that is no number."""
    keras = tf.keras
    return keras.Sequential(
        [
            keras.layers.Input((64,)),
            keras.layers.Dense(8, use_bias=False),
            keras.layers.Lambda(_length, output_shape=(1,)),
            keras.layers.Dense(10),
        ]
    )


def _length(x: Any) -> Any:
    return tf.sqrt(tf.reduce_sum(tf.square(x), axis=1, keepdims=True))


def blank_digits() -> ArraySource:
    """The first digit is a row of zeros."""
    train, _ = digits(200)
    train.columns[0][0] = 0
    return train


def cnn() -> Any:
    keras = tf.keras
    return keras.Sequential(
        [
            keras.layers.Input((64,)),
            keras.layers.Reshape((8, 8, 1)),
            keras.layers.Conv2D(8, 3, padding="same", activation="relu"),
            keras.layers.MaxPooling2D(),
            keras.layers.Conv2D(16, 3, padding="same", activation="relu"),
            keras.layers.Flatten(),
            keras.layers.Dense(32, activation="relu"),
            keras.layers.Dense(10),
        ]
    )


def normalised(dropout: float = 0.2) -> Any:
    """With state beside its weights: moving averages, and what dropout draws from."""
    keras = tf.keras
    return keras.Sequential(
        [
            keras.layers.Input((64,)),
            keras.layers.Dense(32),
            keras.layers.BatchNormalization(),
            keras.layers.Activation("relu"),
            keras.layers.Dropout(dropout),
            keras.layers.Dense(10),
        ]
    )


def noisy() -> Any:
    """With numbers that no generator of its own gives; of Keras 3 alone."""
    import keras

    class Noise(keras.layers.Layer):  # type: ignore[misc]  # untyped
        def call(self, x: Any, training: bool = False) -> Any:
            return x + keras.random.normal(keras.ops.shape(x)) if training else x

    return keras.Sequential([keras.layers.Input((64,)), Noise(), keras.layers.Dense(10)])


def by_batch() -> Any:
    """Normalised by the whole batch."""
    keras = tf.keras
    return keras.Sequential(
        [
            keras.layers.Input((64,)),
            keras.layers.Dense(32),
            keras.layers.BatchNormalization(synchronized=True),
            keras.layers.Dense(10),
        ]
    )


def digits(rows: int = 333, validation: int = 101) -> tuple[ArraySource, ArraySource | None]:
    """scikit-learn's digits; the last `validation` of the rows are held out."""
    images, labels = load_digits(return_X_y=True)
    columns = ((images / 16).astype(np.float32), labels.astype(np.int64))
    train = ArraySource([column[:rows] for column in columns])
    held_out = ArraySource([column[rows : rows + validation] for column in columns])
    return train, held_out if validation else None


def replaced(rows: tuple[int, int], validation: tuple[int, int]) -> tuple[ArraySource, ArraySource]:
    """The file was replaced before the second worker has read it."""
    rank = json.loads(os.environ["TF_CONFIG"])["task"]["index"]
    train, held_out = digits(rows[rank], validation[rank])
    assert held_out is not None
    return train, held_out


def tagger() -> Any:
    """A class for each step, but for those where the input is 0; the outputs are kept small."""
    keras = tf.keras
    return keras.Sequential(
        [
            keras.layers.Input((8,)),
            keras.layers.Embedding(17, 8, mask_zero=True),
            keras.layers.Dense(4, activity_regularizer="l2"),
        ]
    )


def tagged(rows: int = 333) -> tuple[ArraySource, ArraySource]:
    """The inner rows of digits, whose darkest places end a row early; validated on the same."""
    images, _ = load_digits(return_X_y=True)
    tokens = images[:rows, 24:32].astype(np.int64)
    source = ArraySource([tokens, tokens % 4])
    return source, source


def labelled(label: float, dtype: str = "int64", shape: Sequence[int] = ()) -> ArraySource:
    """Digits, whether they are above 4 but for row 23."""
    images, labels = load_digits(return_X_y=True)
    targets = (labels[:100] > 4).astype(dtype)
    targets[23] = label
    return ArraySource([images[:100].astype(np.float32) / 16, targets.reshape(100, *shape)])


class Torn(ArraySource):
    """Rows of which the 24th is lost."""

    def take(self, rows: Any) -> Any:
        if 23 in rows:
            raise OSError("rows.bin: Input/output error")
        return super().take(rows)


def torn() -> ArraySource:
    train, _ = digits(100)
    return Torn(train.columns)


def own_loss() -> Any:
    class Own(tf.keras.losses.Loss):  # type: ignore[misc]  # untyped
        def call(self, targets: Any, outputs: Any) -> Any:
            return tf.reduce_mean(tf.square(targets - outputs), axis=-1)

    return Own()


def mean_loss() -> Any:
    class Own(tf.keras.losses.Loss):  # type: ignore[misc]  # untyped
        def call(self, targets: Any, outputs: Any) -> Any:
            return tf.reduce_mean(tf.square(outputs))

    return Own()


def flat_loss() -> Any:
    """Of outputs without their last axis, as if that of the targets was not there."""

    class Own(tf.keras.losses.Loss):  # type: ignore[misc]  # untyped
        def call(self, targets: Any, outputs: Any) -> Any:
            return tf.reduce_mean(tf.square(targets - outputs[:, 0]), axis=-1)

    return Own()


def single() -> Any:
    """One output a row."""
    keras = tf.keras
    return keras.Sequential([keras.layers.Input((64,)), keras.layers.Dense(1)])


def halves() -> tuple[ArraySource, ArraySource]:
    """Whether a digit is above 4, as a vector; validated on the same."""
    images, labels = load_digits(return_X_y=True)
    source = ArraySource([images[:333].astype(np.float32) / 16, (labels[:333] > 4).astype(float)])
    return source, source


def doubles() -> tuple[ArraySource, ArraySource]:
    """Targets of numpy's own type, [rows, 10]."""
    images, labels = load_digits(return_X_y=True)
    source = ArraySource([images[:100].astype(np.float32), np.eye(10)[labels[:100]]])
    return source, source


def adapted(rows: int) -> Any:
    """With a normalisation by the first rows of digits."""
    keras = tf.keras
    images, _ = load_digits(return_X_y=True)
    normalization = keras.layers.Normalization(axis=None)
    normalization.adapt(images[:rows])
    return keras.Sequential([keras.layers.Input((64,)), normalization, keras.layers.Dense(10)])


def half(factor: float, outputs: str = "float16") -> Any:
    """In float16, where gradients of a small factor vanish, and those of a large one overflow."""
    keras = tf.keras
    half = {"dtype": keras.mixed_precision.Policy("mixed_float16")}
    return keras.Sequential(
        [
            keras.layers.Input((64,)),
            keras.layers.Dense(10, **half),
            keras.layers.Rescaling(factor, **half),
            keras.layers.Activation("linear", dtype=outputs),
        ]
    )


def decaying(learning_rate: float) -> Any:
    """An optimizer of one's own, whose rate falls to 0 in 20 steps."""
    schedule = tf.keras.optimizers.schedules.PolynomialDecay(learning_rate, 20, 0.0)
    return tf.keras.optimizers.Adam(schedule)


def clipping(learning_rate: float) -> Any:
    return tf.keras.optimizers.Adam(learning_rate, clipnorm=0.1)


def doubling(learning_rate: float) -> float:
    return 2 * learning_rate


def subclassed() -> Any:
    class Own(tf.keras.Model):  # type: ignore[misc]  # untyped
        def __init__(self) -> None:
            super().__init__()
            self.dense = tf.keras.layers.Dense(10)

        def call(self, x: Any) -> Any:
            return self.dense(x)

    model = Own()
    model.build((None, 64))
    return model


def stepping() -> Any:
    """Half as eager as Keras has it."""

    class Own(tf.keras.Model):  # type: ignore[misc]  # untyped
        def compute_loss(self, *arguments: Any, **named: Any) -> Any:
            return super().compute_loss(*arguments, **named) / 2

    inputs = tf.keras.layers.Input((64,))
    return Own(inputs, tf.keras.layers.Dense(10)(inputs))


def tracking(name: str = "loss") -> Any:
    """With steps and a metric of its own."""

    class Own(tf.keras.Model):  # type: ignore[misc]  # untyped
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments)
            self.mean = tf.keras.metrics.Mean(name=name)

        @property
        def metrics(self) -> list[Any]:
            return [self.mean]

        def train_step(self, data: Any) -> dict[str, Any]:
            images, labels, weights = data
            with tf.GradientTape() as tape:
                loss = self.compute_loss(images, labels, self(images, training=True), weights)
            gradients = tape.gradient(loss, self.trainable_variables)
            self.optimizer.apply_gradients(zip(gradients, self.trainable_variables, strict=True))
            self.mean.update_state(loss)
            return {name: self.mean.result()}

    inputs = tf.keras.layers.Input((64,))
    return Own(inputs, tf.keras.layers.Dense(10)(inputs))


def compiled() -> Any:
    model = mlp()
    model.compile(optimizer="sgd", loss="mse")
    return model


def summed_loss() -> Any:
    return tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True, reduction="sum")
