"""scikit-learn's handwritten digits, and networks for them, to be named in a training's spec."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.datasets import load_digits

from raymlops.data.loading import ArraySource

if TYPE_CHECKING:
    from torch import nn

_NUM_CLASSES = 10
_LARGEST = 16.0


def sources(*, num_validation: int = 500, seed: int = 0) -> tuple[ArraySource, ArraySource]:
    """Images [rows, 64] within [0, 1] and labels, of 1,797 digits: to train, and to validate on.

    Rows are drawn for both: they lie in the order of who wrote them.
    """
    images, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(seed).permutation(len(labels))
    held_out, train = order[:num_validation], order[num_validation:]
    columns = ((images / _LARGEST).astype(np.float32), labels.astype(np.int64))
    return tuple(ArraySource([column[rows] for column in columns]) for rows in (train, held_out))  # type: ignore[return-value]  # there are two


def mlp(*, width: int = 64, num_hidden: int = 3) -> nn.Module:
    """Images [rows, 64] to logits [rows, 10], through hidden layers that any plan can cut."""
    from torch import nn

    widths = [64, *[width] * num_hidden]
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(widths):
        layers += [nn.Linear(inputs, outputs), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(width, _NUM_CLASSES))


def keras_mlp(*, width: int = 64, num_hidden: int = 3) -> Any:
    """The same network in Keras."""
    from tensorflow import keras

    hidden = [keras.layers.Dense(width, activation="relu") for _ in range(num_hidden)]
    return keras.Sequential([keras.layers.Input((64,)), *hidden, keras.layers.Dense(_NUM_CLASSES)])


def cnn(*, channels: int = 16) -> nn.Module:
    """The same through two convolutions, each followed by pooling."""
    from torch import nn

    return nn.Sequential(
        nn.Unflatten(1, (1, 8, 8)),
        nn.Conv2d(1, channels, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(channels, 2 * channels, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(2 * channels * 4, _NUM_CLASSES),
    )


def accuracy(model: nn.Module, source: ArraySource) -> float:
    """The share of rows whose label the model finds likeliest."""
    import torch

    images, labels = map(torch.from_numpy, source.take(np.arange(len(source))))
    model.eval()
    with torch.no_grad():
        return float((model(images).argmax(dim=1) == labels).float().mean())
