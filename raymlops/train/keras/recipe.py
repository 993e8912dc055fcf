"""What a spec's names stand for, in Keras 3 or in tf_keras, whichever is handed in."""

from __future__ import annotations

from typing import Any

from raymlops.errors import TrainingError
from raymlops.train.spec import OptimizerSpec
from raymlops.train.spec.factory import Factory

_LOSSES: dict[str, tuple[str, dict[str, Any]]] = {
    "cross_entropy": ("SparseCategoricalCrossentropy", {"from_logits": True}),
    "binary_cross_entropy": ("BinaryCrossentropy", {"from_logits": True}),
    "mse": ("MeanSquaredError", {}),
}
_OPTIMIZERS = {
    "sgd": "SGD",
    "adam": "Adam",
    "adamw": "AdamW",
    "adagrad": "Adagrad",
    "rmsprop": "RMSprop",
}
_CLIPPED = "set clip_norm of the spec, which bounds the gradient of the whole batch"
_REFUSED = {
    "clipnorm": _CLIPPED,  # Keras 3 would clip the gradient of each worker's rows
    "clipvalue": _CLIPPED,
    "global_clipnorm": _CLIPPED,
    "gradient_accumulation_steps": "TensorFlow's strategies cannot run it: set batch_size",
    "ema_overwrite_frequency": "TensorFlow's strategies cannot run it: without it the weights "
    "become their averages at the end",
}
_MEAN = ("sum_over_batch_size", "auto")


def make_model(factory: Factory, keras: Any) -> Any:
    """The model, uncompiled and built.

    Raises:
        TrainingError: it is of another library, compiled, does not know its input shapes, or gives
            something else than one output.
    """
    model = factory.make()
    if not isinstance(model, keras.Model):
        kind = f"{type(model).__module__}.{type(model).__name__}"
        raise TrainingError(
            f"{factory.call} made a {kind}, not a model of {keras.__name__}: Keras 3 trains with "
            "loop 'custom', tf_keras, which is tensorflow.keras there, with loop 'fit'"
        )
    if getattr(model, "optimizer", None) is not None:
        raise TrainingError(
            f"{factory.call} made a compiled model: leave loss and optimizer to the spec"
        )
    if not model.built:
        raise TrainingError(
            f"{factory.call} made a model without weights: begin it with an Input of its shape"
        )
    shape = getattr(model, "output_shape", None)
    if shape is None:
        raise TrainingError(
            f"{factory.call} made a {type(model).__name__} that does not know its output's shape: "
            "make it of its Input, as keras.Model(inputs, outputs) or keras.Sequential"
        )
    if not isinstance(shape, tuple) or len(shape) < 2:
        raise TrainingError(
            f"{factory.call} made a model whose outputs have shape {shape}: give it one output, "
            "[rows, values], also for a single value"
        )
    return model


def make_loss(loss: str | Factory, keras: Any) -> Any:
    """The loss, which is taken as a mean over the rows of the global batch."""
    if isinstance(loss, str):
        name, arguments = _LOSSES[loss]
        return getattr(keras.losses, name)(**arguments)
    made = loss.make()
    if not isinstance(made, keras.losses.Loss) or made.reduction not in _MEAN:
        kind = f"{type(made).__module__}.{type(made).__name__}"
        raise TrainingError(
            f"loss {loss.call} made a {kind} with reduction {getattr(made, 'reduction', None)}; it "
            f"is a loss of {keras.__name__} with reduction {_MEAN[0]}"
        )
    return made


def make_optimizer(spec: OptimizerSpec, keras: Any) -> Any:
    """The optimizer.

    Raises:
        TrainingError: one of Keras does not take the spec's arguments, or it is none of Keras, or
            it is set to what TensorFlow's strategies cannot do, or do wrong.
    """
    arguments = {"learning_rate": spec.learning_rate, **spec.arguments}
    if ":" in spec.name:
        made = Factory(call=spec.name, arguments=arguments).make()
    else:
        try:
            made = getattr(keras.optimizers, _OPTIMIZERS[spec.name])(**arguments)
        except (TypeError, ValueError) as error:
            raise TrainingError(
                f"optimizer {spec.name} does not take arguments {dict(spec.arguments)}: {error}"
            ) from error
    if not isinstance(made, keras.optimizers.Optimizer):
        kind = f"{type(made).__module__}.{type(made).__name__}"
        raise TrainingError(f"{spec.name} made a {kind}, not an optimizer of {keras.__name__}")
    for setting, instead in _REFUSED.items():
        value = getattr(unscaled(made), setting, None)
        if value is not None:
            raise TrainingError(f"optimizer {spec.name} has {setting} {value}; {instead}")
    return made


def unscaled(optimizer: Any) -> Any:
    """The optimizer within one that scales losses."""
    return getattr(optimizer, "inner_optimizer", optimizer)


def with_loss_scale(optimizer: Any, model: Any, keras: Any) -> Any:
    """The optimizer; of a model that computes in float16 it scales losses, or small gradients
    would vanish."""
    scaling = keras.mixed_precision.LossScaleOptimizer
    if isinstance(optimizer, scaling) or "float16" not in {
        layer.compute_dtype for layer in model._flatten_layers()
    }:
        return optimizer
    return scaling(optimizer)
