"""What the workers of the tests run, and its references."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from raymlops.train import Factory
from raymlops.train.keras import KerasSpec
from raymlops.train.keras.checkpoints import Checkpoints
from raymlops.train.keras.state import State, load_weights
from raymlops.train.keras.strategy import told_by_first
from raymlops.train.keras.worker import loop_named
from raymlops.train.loop.progress import Progress
from raymlops.train.spec.sources import Sources


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a worker was told of each step and epoch, and what it had at the end."""

    losses: list[float]
    last_step: Mapping[str, float]
    epochs: list[Mapping[str, float]]
    weights: Mapping[str, NDArray[Any]]
    outputs: NDArray[Any]
    progress: Progress


def train(strategy: Any, *specs: KerasSpec) -> list[Outcome]:
    with TemporaryDirectory() as folder:
        return [_train(strategy, spec, Path(folder) / str(i)) for i, spec in enumerate(specs)]


def train_twice(strategy: Any, spec: KerasSpec, folder: Path) -> Outcome:
    """A training that ends early and is begun anew, from the checkpoints in the folder."""
    first = _train(strategy, replace(spec, max_steps=9), folder)
    assert first.progress.step == 9
    return _train(strategy, spec, folder)


def train_in(strategy: Any, spec: KerasSpec, *folders: Path) -> Outcome:
    """A training whose workers, by rank, have a folder each."""
    rank = json.loads(os.environ["TF_CONFIG"])["task"]["index"]
    return _train(strategy, spec, folders[rank])


def train_plainly(_: Any, spec: KerasSpec, library: str) -> list[NDArray[Any]]:
    """What Keras's own `fit` makes of the same batches, at most 20, without a strategy."""
    import importlib

    keras = importlib.import_module(library)
    (images, labels), _ = (part.columns if part else None for part in spec.data.make())
    keras.utils.set_random_seed(spec.seed)
    model = spec.model.make()
    arguments = {"global_clipnorm": spec.clip_norm, **spec.optimizer.arguments}
    optimizer = keras.optimizers.AdamW(spec.optimizer.learning_rate, **arguments)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer=optimizer, loss=loss)
    for epoch, num_batches in ((1, 7), (2, 7), (3, 6))[: spec.epochs]:
        order = np.random.default_rng((spec.seed, epoch)).permutation(len(labels))
        order = order[: num_batches * spec.batch_size]
        model.fit(images[order], labels[order], spec.batch_size, shuffle=False, verbose=0)
    return [np.array(array) for array in model.get_weights()]


def predict(_: Any, spec: KerasSpec, weights: Mapping[str, NDArray[Any]]) -> NDArray[Any]:
    """What the spec's model, made in this process, gives with these weights."""
    model = spec.model.make()
    load_weights(model, weights)
    return np.array(model(_inputs(spec)))


def hand_over(strategy: Any, model: Factory, other: Factory) -> list[NDArray[Any]]:
    """What a model gives for ones, and what another does once it has the first one's weights."""
    import keras

    first, second = model.make(), other.make()
    weights = State(first, keras.optimizers.SGD(), strategy).weights()
    load_weights(second, weights)
    return [np.array(each(np.ones((1, 64), np.float32))) for each in (first, second)]


def drop(strategy: Any, spec: KerasSpec) -> list[NDArray[Any]]:
    """What the model's dropout leaves of ones, by replica of this process, each time of two."""
    import tensorflow as tf

    loop = loop_named(spec.loop)(spec, strategy)
    (dropout,) = (layer for layer in loop.model.layers if "Dropout" in type(layer).__name__)

    @tf.function  # type: ignore[untyped-decorator]
    def leave() -> Any:
        return strategy.run(lambda: dropout(tf.ones((4, 32)), training=True))

    return [
        np.array(each) for _ in range(2) for each in strategy.experimental_local_results(leave())
    ]


def leave_files(strategy: Any, spec: KerasSpec) -> list[str]:
    """The temporary files of a training whose process does not come to remove them."""
    with TemporaryDirectory() as folder, TemporaryDirectory() as temporary:
        tempfile.tempdir = temporary
        _train(strategy, spec, Path(folder))
        return os.listdir(temporary)


def failure_of(strategy: Any, *specs: KerasSpec) -> list[str]:
    """What each training raises."""
    with TemporaryDirectory() as folder:
        return [_failure(lambda spec=spec: _train(strategy, spec, Path(folder))) for spec in specs]


def _failure(call: Callable[[], object]) -> str:
    try:
        call()
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return "nothing"


def _train(strategy: Any, spec: KerasSpec, folder: Path) -> Outcome:
    losses: list[float] = []
    epochs: list[Mapping[str, float]] = []
    last_step: dict[str, float] = {}

    def log(values: Mapping[str, float], step: int) -> None:
        if "loss" in values:
            losses.append(values["loss"])
            last_step.clear()
            last_step.update(values)
        else:
            epochs.append(values)

    is_chief = '"index": 1' not in os.environ.get("TF_CONFIG", "")
    settle = (lambda: None) if is_chief else None
    told = partial(told_by_first, strategy)
    checkpoints = Checkpoints(folder, spec.checkpoints, settle=settle, told=told)
    loop = loop_named(spec.loop)(spec, strategy, checkpoints=checkpoints, log=log)
    progress = loop.run()
    return Outcome(
        losses=losses,
        last_step=last_step,
        epochs=epochs,
        weights=loop.weights(),
        outputs=np.array(loop.model(_inputs(spec))),
        progress=progress,
    )


def _inputs(spec: KerasSpec) -> NDArray[np.float32]:
    return Sources.make(spec.data).train.take(np.arange(20))[0]
