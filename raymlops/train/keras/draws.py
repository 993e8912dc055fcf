"""Random numbers of a Keras 3 model, such as those of dropout, by replica."""

from __future__ import annotations

from typing import Any

# Seeds that a model gives its layers lie closer together.
_STRIDE = 1_000_003


def draw_by_replica(model: Any) -> None:
    """Lets each replica of a model draw numbers of its own, the first those of a model alone.

    Keras's generators count equally on all replicas, and go on counting so: what a checkpoint
    holds of them is that of any number of replicas.
    """
    for layer in model._flatten_layers():
        for generator in layer._seed_generators:
            generator.next = _Next(generator.next)


class _Next:
    """Stands for `next` of a generator."""

    def __init__(self, draw: Any) -> None:
        self._draw = draw

    def __call__(self, ordered: bool = True) -> Any:
        import tensorflow as tf

        seed = self._draw(ordered)
        replica = tf.distribute.get_replica_context().replica_id_in_sync_group
        return seed + tf.cast([replica * _STRIDE, 0], seed.dtype)
