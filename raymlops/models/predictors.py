"""One way to ask any model: a float32 matrix or a tensor in, numbers out."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import FunctionType
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from raymlops.errors import ModelError

Matrix = NDArray[Any]
"""Rows of inputs: float32 [rows, width], or tensors [rows, ...] of any type of numbers."""

Kind = Literal["sklearn", "torch", "keras", "python", "scorer"]
"""The library a model belongs to, or a plain function; a scorer answers but cannot be taken apart
again."""


class Predictor(Protocol):
    """Outputs [rows] or [rows, k] of rows of inputs."""

    def __call__(self, matrix: Matrix, /) -> NDArray[Any]: ...


def kind_of(model: object) -> Kind:
    """Raises ModelError when the model belongs to no library that is known."""
    if isinstance(model, FunctionType):
        return "python"
    modules = [base.__module__ for base in type(model).__mro__]
    roots = {module.partition(".")[0] for module in modules}
    if any(module.startswith("torch.jit") for module in modules):
        return "scorer"
    if "keras" in roots:
        return "keras"
    if "torch" in roots:
        return "torch"
    if "sklearn" in roots:
        return "sklearn"
    if "tf_keras" in roots:
        raise ModelError(
            f"{type(model).__module__}.{type(model).__qualname__} is of tf_keras, Keras 2: make "
            "the same model with Keras 3 and give it get_weights() of this one"
        )
    if modules[0].startswith("raymlops.models."):
        return "scorer"
    raise ModelError(
        f"{type(model).__module__}.{type(model).__qualname__} is no model of scikit-learn, torch "
        "or Keras, and no function"
    )


def predictor_of(model: Any) -> Predictor:
    """How `model` is asked: class probabilities [rows, k] or values [rows] of scikit-learn,
    what `forward` gives of torch and Keras."""
    match kind_of(model):
        case "sklearn":
            return _SklearnPredictor(model)
        case "torch":
            return _TorchPredictor(model)
        case "keras":
            return _KerasPredictor(model)
        case "python":
            return _FunctionPredictor(model)
        case "scorer" if hasattr(model, "graph"):
            return _TorchPredictor(model)
        case "scorer":
            scorer: Predictor = model
            return scorer


@contextmanager
def mode_kept(model: Any) -> Iterator[None]:
    """Whatever asks a torch module in between, each of its parts learns on as it did before."""
    modes = [(each, each.training) for each in model.modules()] if kind_of(model) == "torch" else []
    try:
        yield
    finally:
        for each, training in modes:
            each.training = training


class _SklearnPredictor:
    """Asks in float64, the precision scikit-learn was fitted with."""

    def __init__(self, model: Any) -> None:
        names = ("predict_proba", "decision_function", "predict")
        self._ask = next((getattr(model, name) for name in names if hasattr(model, name)), None)
        if self._ask is None:
            raise ModelError(f"{type(model).__name__} predicts nothing: it has none of {names}")

    def __call__(self, matrix: Matrix, /) -> NDArray[Any]:
        assert self._ask is not None
        # scikit-learn refuses no rows; how wide its answers are, and of what type, any row tells.
        rows = matrix if len(matrix) else np.zeros((1, *matrix.shape[1:]))
        return flat(np.asarray(self._ask(np.asarray(rows, np.float64))))[: len(matrix)]


class _TorchPredictor:
    def __init__(self, module: Any) -> None:
        # The module of an exported program is in the mode it was exported in, and refuses others.
        self._module = module if _is_exported(module) else module.eval()

    def __call__(self, matrix: Matrix, /) -> NDArray[Any]:
        import torch

        with torch.inference_mode():
            outputs = self._module(torch.tensor(matrix))
        if not isinstance(outputs, torch.Tensor):
            raise ModelError(f"the module gives {type(outputs).__name__}, not one tensor")
        return flat(outputs.numpy())


class _KerasPredictor:
    def __init__(self, model: Any) -> None:
        self._model = model

    def __call__(self, matrix: Matrix, /) -> NDArray[Any]:
        from keras import ops

        outputs = self._model(matrix, training=False)
        if not ops.is_tensor(outputs):
            raise ModelError(f"the model gives {type(outputs).__name__}, not one tensor")
        return flat(np.asarray(ops.convert_to_numpy(outputs)))


class _FunctionPredictor:
    def __init__(self, function: Predictor) -> None:
        self._function = function

    def __call__(self, matrix: Matrix, /) -> NDArray[Any]:
        outputs = self._function(matrix)
        if not isinstance(outputs, np.ndarray):
            raise ModelError(f"the function gives {type(outputs).__name__}, not an array")
        return flat(outputs)


def flat(outputs: NDArray[Any]) -> NDArray[Any]:
    """One value a row is [rows], also where a library makes it [rows, 1]."""
    return outputs[:, 0] if outputs.ndim == 2 and outputs.shape[1] == 1 else outputs


def _is_exported(module: object) -> bool:
    return any(base.__name__ == "GraphModule" for base in type(module).__mro__)
