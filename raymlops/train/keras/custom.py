"""raymlops' own steps over Keras 3, whose `fit` fails on several workers."""

from __future__ import annotations

from typing import Any

from raymlops.train.keras.loop import Loop


class CustomLoop(Loop):
    """The optimizer sums the replicas' gradients, each of its part of the mean over the batch.

    Keras 3 would clip each replica's gradient before it sums them. With `clip_norm` they are
    summed here first, and the optimizer gets them divided by the number of replicas, which it
    then sums: right, at twice the traffic.
    """

    def __init__(self, *arguments: Any, **named: Any) -> None:
        import tensorflow as tf

        super().__init__(*arguments, **named)
        self._learn = tf.function(self._learn_batch, reduce_retracing=True)

    def _library(self) -> Any:
        import keras

        return keras

    def _finish_epoch(self) -> None:
        for batch in self.course.rest_of_epoch():
            values = self._learn(*self.distribute(self.sources.train, batch))
            loss, *norm = (float(value) for value in values)
            told = {"gradient_norm": norm[0]} if norm else {}
            self.course.after_step(loss, batch, self.state, **told)

    def _learn_batch(self, inputs: Any, targets: Any, weights: Any) -> Any:
        """The loss; with clipping, also the norm of all gradients."""
        losses, *norms = self.strategy.run(self._learn_share, args=(inputs, targets, weights))
        loss = self.strategy.reduce("SUM", losses, axis=None)
        return loss, *(self.strategy.reduce("MEAN", norm, axis=None) for norm in norms)

    def _learn_share(self, inputs: Any, targets: Any, weights: Any) -> Any:
        import tensorflow as tf

        variables = self.model.trainable_variables
        with tf.GradientTape() as tape:
            loss = self.objective(inputs, targets, weights, training=True)
        gradients = tape.gradient(loss, [variable.value for variable in variables])
        if self.spec.clip_norm is None:
            self.optimizer.apply(gradients, variables)
            return (loss,)
        context = tf.distribute.get_replica_context()
        gradients = context.all_reduce("SUM", gradients)
        clipped, norm = tf.clip_by_global_norm(gradients, self.spec.clip_norm)
        parts = [gradient / context.num_replicas_in_sync for gradient in clipped]
        self.optimizer.apply(parts, variables)
        return loss, norm
