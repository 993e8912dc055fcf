"""Random numbers of a Keras 3 model, such as those of dropout, by replica."""

from __future__ import annotations

from typing import Any

# Seeds that a model gives its layers lie closer together.
_STRIDE = 1_000_003


def draw_by_replica(model: Any, *others: Any) -> None:
    """Lets each replica of a model draw numbers of its own, the first those of a model alone, from
    its layers' generators and the `others`.

    Keras's generators count equally on all replicas, and go on counting so: what a checkpoint
    holds of them is that of any number of replicas.
    """
    of_layers = [each for layer in model._flatten_layers() for each in layer._seed_generators]
    for generator in (*of_layers, *others):
        generator.next = _Next(generator.next)


def draw_from(generator: Any) -> None:
    """Has `keras.random` draw from it where it is handed none, in this thread.

    Keras keeps such a generator by thread, and makes it when it is asked first: strategies trace
    each replica in a thread of its own, where it is too late to make a variable.
    """
    from keras.src.backend.common.global_state import set_global_attribute
    from keras.src.random.seed_generator import GLOBAL_SEED_GENERATOR

    set_global_attribute(GLOBAL_SEED_GENERATOR, generator)


class _Next:
    """Stands for `next` of a generator."""

    def __init__(self, draw: Any) -> None:
        self._draw = draw

    def __call__(self, ordered: bool = True) -> Any:
        import tensorflow as tf

        seed = self._draw(ordered)
        context = tf.distribute.get_replica_context()
        if context is None:  # the strategy's own scope, such as where a layer makes its weights
            return seed
        return seed + tf.cast([context.replica_id_in_sync_group * _STRIDE, 0], seed.dtype)
