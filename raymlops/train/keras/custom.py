"""raymlops' own steps over Keras 3, whose `fit` fails on several workers."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from raymlops.errors import TrainingError
from raymlops.train.keras.draws import draw_by_replica, draw_from
from raymlops.train.keras.loop import Loop


class CustomLoop(Loop):
    """The optimizer sums the replicas' gradients, each of its part of the mean over the batch.

    Keras 3 would clip each replica's gradient before it sums them, and leave out a step where that
    replica's overflows. With `clip_norm` or a scale of the loss they are summed here first, and the
    optimizer gets them divided by the number of replicas, which it then sums: right, at twice the
    traffic.
    """

    def __init__(self, *arguments: Any, **named: Any) -> None:
        import tensorflow as tf

        super().__init__(*arguments, **named)
        self._require_own_steps()
        draw_by_replica(self.model, *self._generators)
        self._learn = tf.function(self._learn_batch, reduce_retracing=True)

    def _require_own_steps(self) -> None:
        """Raises TrainingError where the model would learn otherwise, which only `fit` does."""
        from keras import Model

        for name in ("train_step", "compute_loss"):
            if getattr(type(self.model), name) is not getattr(Model, name):
                raise TrainingError(
                    f"{self.spec.model.call} made a {type(self.model).__name__} with a {name} of "
                    "its own, which loop 'custom' would not call: give the spec a loss, add_loss "
                    "in a layer, or set loop to 'fit' with a model of tf_keras"
                )

    def _library(self) -> Any:
        import keras

        return keras

    def _make_generators(self, keras: Any) -> tuple[Any, ...]:
        return (keras.random.SeedGenerator(),)

    def objective(self, *arguments: Any, **named: Any) -> Any:
        draw_from(*self._generators)
        return super().objective(*arguments, **named)

    def _losses(self, targets: Any, outputs: Any) -> Any:
        import tensorflow as tf

        dtype = self.loss.dtype
        return self.loss.call(tf.cast(targets, dtype), tf.cast(outputs, dtype))

    def _finish_epoch(self) -> None:
        spent = self.course.meter.spent
        for batch in self.course.rest_of_epoch():
            told = {"learning_rate": self.learning_rate}
            with spent("data"):
                parts = self.distribute(self.sources.train, batch)
            with spent("compute"):
                loss, num_broken, *norm = (float(value) for value in self._learn(*parts))
            if norm:
                told["gradient_norm"] = norm[0]
            finite = num_broken == 0 and all(map(math.isfinite, norm))
            self.course.after_step(loss, batch, self.state, finite=finite, **told)

    def _learn_batch(self, inputs: Any, targets: Any, weights: Any) -> Any:
        """The loss, and how many gradients are not finite; with clipping, also their norm."""
        import tensorflow as tf

        sums, *norms = self.strategy.run(self._learn_share, args=(inputs, targets, weights))
        loss, num_broken = tf.unstack(self.strategy.reduce("SUM", sums, axis=None))
        norms = [self.strategy.reduce("MEAN", norm, axis=None) for norm in norms]
        return loss, num_broken, *norms

    def _learn_share(self, inputs: Any, targets: Any, weights: Any) -> Any:
        import tensorflow as tf

        variables = self.model.trainable_variables
        scale = tf.cast(self.optimizer.scale_loss(1.0), weights.dtype)
        with tf.GradientTape() as tape:
            loss = self.objective(inputs, targets, weights, training=True)
            scaled = loss * scale
        gradients = tape.gradient(scaled, [variable.value for variable in variables])
        sums = tf.stack([loss, _num_broken(gradients, loss.dtype)])  # reduced in one message
        if self.spec.clip_norm is None and not self.scales_loss:
            self.optimizer.apply(gradients, variables)
            return (sums,)
        context = tf.distribute.get_replica_context()
        reached = [place for place, gradient in enumerate(gradients) if gradient is not None]
        # Of an embedding's rows some come twice, whose norm is that of their sum.
        dense = [tf.convert_to_tensor(gradients[place]) for place in reached]
        summed = context.all_reduce("SUM", dense)
        norms = []
        if self.spec.clip_norm is not None:
            summed, norm = tf.clip_by_global_norm(summed, self.spec.clip_norm * scale)
            norms = [norm / scale]
        for place, gradient in zip(reached, summed, strict=True):
            gradients[place] = gradient / context.num_replicas_in_sync
        self.optimizer.apply(gradients, variables)
        return sums, *norms


def _num_broken(gradients: Iterable[Any], dtype: Any) -> Any:
    """How many of the gradients hold what is not finite."""
    import tensorflow as tf

    found = [each for each in gradients if each is not None]
    dense = [each.values if isinstance(each, tf.IndexedSlices) else each for each in found]
    broken = [tf.reduce_any(~tf.math.is_finite(each)) for each in dense]
    return tf.math.count_nonzero(broken, dtype=dtype)
