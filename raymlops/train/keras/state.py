"""The numbers of a training: the model's variables and the optimizer's, as arrays by name.

    model/000/dense/kernel          weights, random generators of dropout
    draws/000/seed_generator_state  what layers draw from that have no generator of their own
    optimizer/001/learning_rate     and momenta

The numbers are places in Keras's order; what follows is for people, and for the last part of it,
the variable's role, by which weights of another model are known.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from raymlops.errors import TrainingError

if TYPE_CHECKING:
    import tensorflow as tf

Arrays = Mapping[str, NDArray[Any]]


class State:
    """A model and its optimizer, of Keras 3 or of tf_keras, kept by a strategy."""

    def __init__(
        self,
        model: Any,
        optimizer: Any,
        strategy: tf.distribute.Strategy,
        generators: Sequence[Any] = (),
    ) -> None:
        import tensorflow as tf

        self._model = model
        learned = [*optimizer.variables, *_of_loss_scale(optimizer)]
        draws = [each.state for each in generators]
        self._groups = {"model": model.variables, "draws": draws, "optimizer": learned}
        self._strategy = strategy
        self._average = tf.function(self._average_everywhere)

    def settle(self) -> None:
        """Makes the replicas equal: moving averages, such as a batch normalisation's, are those of
        each replica's rows until this averages them. Every worker calls it."""
        if self._strategy.num_replicas_in_sync > 1:
            self._average()

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Copies of everything, settled."""
        self.settle()
        return {
            name: np.array(variable.numpy())
            for group, variables in self._groups.items()
            for name, variable in _named(group, variables)
        }

    def restore(self, arrays: Arrays) -> None:
        """Sets everything to what `arrays` said.

        Raises:
            TrainingError: they are of another model or optimizer.
        """
        for group, variables in self._groups.items():
            of_group = {n: array for n, array in arrays.items() if n.startswith(f"{group}/")}
            if group == "draws" and not of_group:
                continue  # the first checkpoints did not hold them
            _assign(of_group, _named(group, variables))
        _finalize(self._model)

    def weights(self) -> dict[str, NDArray[Any]]:
        """What the model predicts with, settled."""
        self.settle()
        return {n: np.array(v.numpy()) for n, v in _named("model", self._model.weights)}

    def _average_everywhere(self) -> None:
        self._strategy.run(self._average_here)

    def _average_here(self) -> None:
        import tensorflow as tf

        found = self._model.non_trainable_variables
        drifting = [variable for variable in found if "float" in str(variable.dtype)]
        if drifting:
            # Where a variable lies is not known in a graph, where its copy lies is.
            values = [tf.identity(tf.convert_to_tensor(variable)) for variable in drifting]
            means = tf.distribute.get_replica_context().all_reduce("MEAN", values)
            for variable, mean in zip(drifting, means, strict=True):
                variable.assign(mean)


def _of_loss_scale(optimizer: Any) -> list[Any]:
    """What tf_keras's loss scale knows beside the variables of its optimizer, where there is one;
    Keras 3 has it among them."""
    scale: Any = getattr(optimizer, "_loss_scale", None)
    return [scale.current_loss_scale, scale.counter] if hasattr(scale, "counter") else []


def load_weights(model: Any, weights: Arrays) -> None:
    """Sets what a model predicts with; it may be of the other Keras than the one that trained.

    Raises:
        TrainingError: they are of another model.
    """
    _assign(weights, _named("model", model.weights))
    _finalize(model)


def _finalize(model: Any) -> None:
    """Has layers that were adapted to data compute with what was assigned: they keep constants made
    of their variables, here those of the data that the factory sees today."""
    for layer in model._flatten_layers():
        if hasattr(layer, "finalize_state"):
            layer.finalize_state()


def _assign(arrays: Arrays, variables: Iterable[tuple[str, Any]]) -> None:
    pairs = list(variables)
    here = [_told(name, variable.shape) for name, variable in pairs]
    there = [_told(name, array.shape) for name, array in arrays.items()]
    if here != there:
        at = next((i for i, (a, b) in enumerate(zip(here, there, strict=False)) if a != b), None)
        what = (
            f"{len(there)} arrays were saved, it has {len(here)}"
            if at is None
            else f"where {there[at]} was saved it has {here[at]}"
        )
        raise TrainingError(
            f"what was saved is of another model: {what}; use the factory and arguments it was "
            "trained with"
        )
    for array, (_, variable) in zip(arrays.values(), pairs, strict=True):
        variable.assign(array)


def _named(group: str, variables: Iterable[Any]) -> Iterator[tuple[str, Any]]:
    for number, variable in enumerate(variables):
        path = getattr(variable, "path", variable.name).removesuffix(":0")
        yield f"{group}/{number:03d}/{path}", variable


def _told(name: str, shape: Iterable[int]) -> str:
    """Group, place, role and shape; names of layers count on in a process that makes several."""
    group, number, *_, last = name.split("/")
    return f"{group}/{number}/{last.rpartition('_')[2]} {tuple(shape)}"
