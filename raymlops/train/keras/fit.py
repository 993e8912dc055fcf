"""The `fit` of tf_keras, handed raymlops' batches and asked after each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from raymlops.errors import TrainingError
from raymlops.train.keras.loop import Loop, first_rows
from raymlops.train.keras.recipe import unscaled
from raymlops.train.loop.batches import Batch


class FitLoop(Loop):
    """Calls `fit` for what is left of each epoch.

    tf_keras takes a replica's loss as the mean over its rows, divided by the number of replicas:
    sample weights undo both, so that the gradient is that of the mean over the global batch. What
    it logs is a running mean, summed over replicas or not as the strategy has it: the step's own
    loss is taken out of the metric behind it. It shows no gradients: one that is not finite is
    known by what any optimizer makes of its weight, something that is not finite.
    """

    def __init__(self, *arguments: Any, **named: Any) -> None:
        import tensorflow as tf

        super().__init__(*arguments, **named)
        with self.strategy.scope():
            self.model.compile(optimizer=self.optimizer, loss=self.loss)
        self._take_step = tf.function(self._take_global_step)
        self._unread: Exception | None = None

    @property
    def loss_scale(self) -> float:
        """It falls where gradients overflow, whose step is left out."""
        return float(self.optimizer.loss_scale) if self.scales_loss else 1.0

    def _library(self) -> Any:
        import tf_keras

        return tf_keras

    def _make_optimizer(self, keras: Any) -> Any:
        optimizer = super()._make_optimizer(keras)
        if unscaled(optimizer).use_ema:
            raise TrainingError(
                f"optimizer {self.spec.optimizer.name} has use_ema, by which each epoch's `fit` of "
                "tf_keras would end: set loop to custom"
            )
        # tf_keras sums gradients first, so its clipping bounds the gradient of the whole batch.
        unscaled(optimizer).global_clipnorm = self.spec.clip_norm
        return optimizer

    def _losses(self, targets: Any, outputs: Any) -> Any:
        import tensorflow as tf

        if targets.dtype.is_floating:
            targets = tf.cast(targets, outputs.dtype)
        if targets.shape.rank == 1 and outputs.shape.rank == 2:
            targets = tf.expand_dims(targets, axis=1)
        return self.loss.call(targets, outputs)

    def _finish_epoch(self) -> None:
        import tensorflow as tf

        batches = list(self.course.rest_of_epoch())
        if not batches:
            return
        try:
            self.model.fit(
                self._dataset(batches),
                steps_per_epoch=len(batches),
                callbacks=[self._listener(batches)],
                verbose=0,
            )
        except tf.errors.OpError:
            if self._unread is None:
                raise
            raise self._unread from None

    def _dataset(self, batches: Sequence[Batch]) -> Any:
        """Each worker's replicas' rows, batch by batch."""
        import tensorflow as tf

        num_replicas = self.strategy.num_replicas_in_sync
        signature = tf.nest.map_structure(_any_length, self._read_scaled(batches[0], 0))

        def make(context: Any) -> Any:
            num_here = num_replicas // context.num_input_pipelines
            first = context.input_pipeline_id * num_here

            def parts() -> Iterator[Any]:
                try:
                    for batch in batches:
                        for replica in range(first, first + num_here):
                            yield self._read_scaled(batch, replica)
                except Exception as error:  # TensorFlow's thread would make a text of it
                    self._unread = error
                    raise

            return tf.data.Dataset.from_generator(parts, output_signature=signature)

        return self.strategy.distribute_datasets_from_function(make)

    def _read_scaled(self, batch: Batch, replica: int) -> tuple[Any, Any, Any]:
        part = self.read(self.sources.train, batch, replica)
        inputs, targets, weights = first_rows(part, max(1, np.count_nonzero(part[-1])))
        scale = np.float32(len(weights) * self.strategy.num_replicas_in_sync)
        return inputs, targets, weights * scale

    def _listener(self, batches: Sequence[Batch]) -> Any:
        import tf_keras

        loop = self

        class Listener(tf_keras.callbacks.Callback):  # type: ignore[misc]  # untyped
            def on_train_batch_begin(self, number: int, logs: Any = None) -> None:
                self.loss_scale = loop.loss_scale

            def on_train_batch_end(self, number: int, logs: Any = None) -> None:
                if number == 0:
                    loop._require_loss()
                loss, finite = loop._take_step()
                loop.course.after_step(
                    float(loss),
                    batches[number],
                    loop.state,
                    finite=bool(finite) and loop.loss_scale >= self.loss_scale,
                    learning_rate=loop.learning_rate,
                )

        return Listener()

    def _require_loss(self) -> None:
        """Raises TrainingError where a `train_step` of the model's own keeps its loss elsewhere."""
        names = [metric.name for metric in self.model.metrics]
        if "loss" not in names:
            raise TrainingError(
                f"{self.spec.model.call} made a {type(self.model).__name__} whose metrics are "
                f"{names}, of which none is called loss: name the one of its train_step's loss so, "
                "as Mean(name='loss')"
            )

    def _take_global_step(self) -> Any:
        """The last step's mean loss over the global batch, which is forgotten, and whether the
        weights are finite."""
        import tensorflow as tf

        losses = self.strategy.run(self._take_replica_loss)
        weights = [tf.convert_to_tensor(each) for each in self.model.trainable_variables]
        finite = [tf.reduce_all(tf.math.is_finite(each)) for each in weights]
        return self.strategy.reduce("MEAN", losses, axis=None), tf.reduce_all(finite)

    def _take_replica_loss(self) -> Any:
        import tensorflow as tf

        metrics = self.model.metrics
        told = next(metric for metric in metrics if metric.name == "loss")
        loss = told.total / told.count
        # Of its own metric tf_keras undoes what it divided the loss by; a model's does not.
        if not any(told is metric for metric in self.model.compiled_loss.metrics):
            loss *= self.strategy.num_replicas_in_sync
        for metric in metrics:
            for variable in metric.variables:
                variable.assign(tf.zeros_like(variable))
        return loss


def _any_length(column: Any) -> Any:
    import tensorflow as tf

    return tf.TensorSpec((None, *column.shape[1:]), column.dtype)
