"""Real models for the tests of formats, each fitted once."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits, load_wine
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, StandardScaler
from sklearn.tree import DecisionTreeClassifier

from tests.models import rule


@dataclass(frozen=True, kw_only=True)
class Fitted:
    """A model, the rows [rows, width] it was fitted on, and what its own library predicts."""

    model: Any
    rows: NDArray[np.float32]
    predictions: NDArray[Any]


def data(name: str) -> tuple[NDArray[np.float32], NDArray[Any]]:
    loaders = {
        "tumours": load_breast_cancer,
        "wine": load_wine,
        "diabetes": load_diabetes,
        "digits": load_digits,
    }
    rows, target = loaders[name](return_X_y=True)
    return rows.astype(np.float32), target


def sklearn_fitted(model: Any, name: str) -> Fitted:
    rows, target = data(name)
    model.fit(rows, target)
    ask = model.predict_proba if hasattr(model, "predict_proba") else model.predict
    return Fitted(model=model, rows=rows, predictions=ask(rows.astype(np.float64)))


@cache
def fitted(name: str) -> Fitted:
    return _MODELS[name]()


def _torch_digits() -> Fitted:
    import torch

    rows, target = data("digits")
    torch.manual_seed(0)
    model = torch.nn.Sequential(
        torch.nn.Linear(64, 32),
        torch.nn.BatchNorm1d(32),
        torch.nn.Sequential(torch.nn.ReLU(), torch.nn.Dropout(0.1)),
        torch.nn.Linear(32, 10),
    )
    _train_torch(model, torch.nn.CrossEntropyLoss(), rows, torch.from_numpy(target))
    return _torch(model, rows)


def _torch_diabetes() -> Fitted:
    import torch

    rows, target = data("diabetes")
    torch.manual_seed(0)
    model = torch.nn.Sequential(
        torch.nn.Linear(10, 16), torch.nn.Tanh(), torch.nn.Linear(16, 1), torch.nn.Flatten(0)
    )
    _train_torch(model, torch.nn.MSELoss(), rows, torch.from_numpy(target.astype(np.float32)))
    return _torch(model, rows)


def _torch_image() -> Fitted:
    """A convolution over the digits as images; untrained weights predict as well as any here."""
    import torch

    torch.manual_seed(0)
    model = torch.nn.Sequential(
        torch.nn.Unflatten(1, (1, 8, 8)),
        torch.nn.Conv2d(1, 4, 3, padding=1, bias=False),
        torch.nn.BatchNorm2d(4),
        torch.nn.LeakyReLU(0.2),
        torch.nn.MaxPool2d(2),
        torch.nn.Flatten(),
        torch.nn.Linear(64, 10),
        torch.nn.Softmax(1),
    )
    return _torch(model, data("digits")[0])


def _train_torch(model: Any, loss: Any, rows: NDArray[np.float32], target: Any) -> None:
    import torch

    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(20):
        optimizer.zero_grad()
        loss(model(torch.from_numpy(rows)), target).backward()
        optimizer.step()


def _torch(model: Any, rows: NDArray[np.float32]) -> Fitted:
    import torch

    with torch.no_grad():
        predictions = model.eval()(torch.from_numpy(rows)).numpy()
    return Fitted(model=model, rows=rows, predictions=predictions)


def _keras(name: str, last: Callable[[Any], Any], loss: str) -> Fitted:
    rows, target = data(name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TensorFlow and numpy warn of each other
        import keras

        keras.utils.set_random_seed(0)
        model = keras.Sequential(
            [
                keras.Input((rows.shape[1],)),
                keras.layers.Dense(16, activation="relu"),
                keras.layers.BatchNormalization(),
                last(keras),
            ]
        )
        model.compile("adam", loss)
        model.fit(rows, target, epochs=1, batch_size=128, verbose=0)
        predictions = model.predict(rows, batch_size=len(rows), verbose=0)
    return Fitted(model=model, rows=rows, predictions=np.squeeze(predictions))


def _python_rule(name: str) -> Fitted:
    rows, _ = data(name)
    return Fitted(model=rule.predict, rows=rows, predictions=rule.predict(rows))


_MODELS: dict[str, Callable[[], Fitted]] = {
    "scaled logistic": lambda: sklearn_fitted(
        make_pipeline(StandardScaler(), LogisticRegression()), "tumours"
    ),
    "scaled softmax": lambda: sklearn_fitted(
        make_pipeline(MinMaxScaler(), LogisticRegression()), "wine"
    ),
    "scaled ridge": lambda: sklearn_fitted(make_pipeline(StandardScaler(), Ridge()), "diabetes"),
    "tree": lambda: sklearn_fitted(DecisionTreeClassifier(random_state=0), "wine"),
    "torch classifier": _torch_digits,
    "torch regressor": _torch_diabetes,
    "torch image": _torch_image,
    "keras classifier": lambda: _keras(
        "digits",
        lambda keras: keras.layers.Dense(10, activation="softmax"),
        "sparse_categorical_crossentropy",
    ),
    "keras regressor": lambda: _keras("diabetes", lambda keras: keras.layers.Dense(1), "mse"),
    "python rule": lambda: _python_rule("tumours"),
}
