"""The training loop, but for the way a batch is learned from."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from raymlops.data.loading import Source
from raymlops.train.keras.by_row import require_by_row
from raymlops.train.keras.checkpoints import Checkpoints
from raymlops.train.keras.course import Course, Log
from raymlops.train.keras.fitting import require_fitting
from raymlops.train.keras.recipe import (
    make_loss,
    make_model,
    make_optimizer,
    unscaled,
    with_loss_scale,
)
from raymlops.train.keras.share import share
from raymlops.train.keras.spec import KerasSpec
from raymlops.train.keras.state import State
from raymlops.train.keras.strategy import of_each_worker
from raymlops.train.keras.targets import Targets
from raymlops.train.loop.alike import require_alike
from raymlops.train.loop.batches import Batch, batches_of
from raymlops.train.loop.progress import Progress
from raymlops.train.spec.sources import Sources

if TYPE_CHECKING:
    import tensorflow as tf


class Loop(ABC):
    """One worker's training. All workers make one, with the same spec, and `run` it.

    Replicas are the copies of the model: one for each device of each worker.

    Raises:
        TrainingError: the model or the loss is of the wrong library, or the data are not what the
            spec needs.
    """

    def __init__(
        self,
        spec: KerasSpec,
        strategy: tf.distribute.Strategy,
        *,
        sources: Sources | None = None,
        checkpoints: Checkpoints | None = None,
        log: Log | None = None,
    ) -> None:
        import tensorflow as tf

        keras = self._library()
        keras.utils.set_random_seed(spec.seed)
        self.spec = spec
        self.strategy = strategy
        self.sources = sources or Sources.make(spec.data)
        self.sources.require_for(spec.stopping)
        require_alike(of_each_worker(strategy, self.sources.lengths))
        with strategy.scope():
            self.model = make_model(spec.model, keras)
            self.loss = make_loss(spec.loss, keras)
            self.optimizer = with_loss_scale(self._make_optimizer(keras), self.model, keras)
            self.optimizer.build(self.model.trainable_variables)
            self._generators = self._make_generators(keras)
        self._targets = Targets(spec, self.model.output_shape)
        require_fitting(spec, self.model, self._targets, self.sources)
        require_by_row(spec, self._losses, self.sources.train, self.model.output_shape)
        self.state = State(self.model, self.optimizer, strategy, self._generators)
        self.course = Course(
            spec,
            len(self.sources.train),
            precision="fp16" if self.scales_loss else "fp32",
            checkpoints=checkpoints,
            log=log,
        )
        self._evaluate = tf.function(self._evaluate_batch, reduce_retracing=True)

    def run(self) -> Progress:
        """Trains to the end, from the newest checkpoint if there is one.

        Raises:
            TrainingError: the loss stopped being a number, or the checkpoint is of another model.
        """
        self.course.begin(self.state)
        while not self.course.is_over:
            self._finish_epoch()
            self.course.after_epoch(self._validate)
        self.optimizer.finalize_variable_values(self.model.trainable_variables)
        return self.course.end()

    def weights(self) -> dict[str, NDArray[Any]]:
        """What the model predicts with, by name; every worker calls it."""
        return self.state.weights()

    @property
    def learning_rate(self) -> float:
        """Of Keras 3 that of the step to come, of tf_keras that of the last."""
        return float(self.optimizer.learning_rate.numpy())

    @property
    def scales_loss(self) -> bool:
        """Whether steps whose gradients overflow are left out, until the scale has its place."""
        return unscaled(self.optimizer) is not self.optimizer

    @abstractmethod
    def _library(self) -> Any:
        """The Keras that this loop trains with."""

    def _make_generators(self, keras: Any) -> tuple[Any, ...]:
        """What random numbers come from, beside the generators of the model's layers."""
        return ()

    def _make_optimizer(self, keras: Any) -> Any:
        return make_optimizer(self.spec.optimizer, keras)

    @abstractmethod
    def _finish_epoch(self) -> None:
        """Learns from the batches left of this epoch, and tells the course of each."""

    @abstractmethod
    def _losses(self, targets: Any, outputs: Any) -> Any:
        """The losses [rows, ...], of targets and outputs as the library hands them to a loss."""

    def objective(self, inputs: Any, targets: Any, weights: Any, *, training: bool) -> Any:
        """A replica's part of the mean loss over the global batch, penalties included."""
        import tensorflow as tf

        count = tf.maximum(1, tf.math.count_nonzero(weights, dtype=tf.int32))
        inputs, targets, weights = first_rows((inputs, targets, weights), count)
        outputs = self.model(inputs, training=training)
        losses = tf.cast(self._losses(targets, outputs), weights.dtype)
        mask = getattr(outputs, "_keras_mask", None)
        if mask is None:
            by_row = tf.reduce_mean(_flat(losses), axis=1)
        else:
            by_row = _masked(losses, mask, weights)
        # Of a layer's outputs a penalty is a mean over the replica's rows, of weights the same on
        # each: either is weighed by the replica's part of the batch.
        penalty = sum(tf.cast(each, by_row.dtype) for each in self.model.losses)
        return tf.reduce_sum(by_row * weights) + penalty * tf.reduce_sum(weights)

    def distribute(self, source: Source, batch: Batch) -> Any:
        """Inputs, targets and weights of the batch, each replica's own."""
        return self.strategy.experimental_distribute_values_from_function(
            lambda context: self.read(source, batch, context.replica_id_in_sync_group)
        )

    def read(self, source: Source, batch: Batch, replica: int) -> tuple[Any, Any, Any]:
        """The rows of a batch that a replica sees."""
        part = share(batch, replica=replica, num_replicas=self.strategy.num_replicas_in_sync)
        *inputs, targets = source.take(part.rows)
        purpose = "validate" if source is self.sources.validation else "train"
        self._targets.require_values(targets, part.rows, purpose=purpose)
        return inputs[0] if len(inputs) == 1 else tuple(inputs), targets, part.weights

    def _validate(self) -> float | None:
        """The mean loss over the validation source."""
        source = self.sources.validation
        if source is None:
            return None
        self.state.settle()
        rows = np.arange(len(source))
        losses = (
            float(self._evaluate(*self.distribute(source, batch))) * batch.global_size
            for batch in batches_of(rows, batch_size=self.spec.batch_size)
        )
        return sum(losses) / len(source)

    def _evaluate_batch(self, inputs: Any, targets: Any, weights: Any) -> Any:
        losses = self.strategy.run(
            self.objective, args=(inputs, targets, weights), kwargs={"training": False}
        )
        return self.strategy.reduce("SUM", losses, axis=None)


def first_rows(part: tuple[Any, Any, Any], count: Any) -> tuple[Any, Any, Any]:
    """So many rows of a replica's inputs, targets and weights.

    Those that stand in for others come last. Of a normalisation by the batch, or a penalty on what
    layers give, they would be a part; one is left where there is no other row.
    """
    import tensorflow as tf

    rows: tuple[Any, Any, Any] = tf.nest.map_structure(lambda column: column[:count], part)
    return rows


def _masked(losses: Any, mask: Any, weights: Any) -> Any:
    """Each row's loss, of which the weighted sum over all replicas is the mean over those steps of
    the global batch that a model's mask leaves."""
    import tensorflow as tf

    counts = _flat(tf.cast(mask, losses.dtype))
    steps = tf.reduce_sum(tf.reduce_sum(counts, axis=1) * weights)
    mean_steps = tf.distribute.get_replica_context().all_reduce("SUM", steps)
    return tf.math.divide_no_nan(tf.reduce_sum(_flat(losses) * counts, axis=1), mean_steps)


def _flat(values: Any) -> Any:
    """[rows, ...] as [rows, values]."""
    import tensorflow as tf

    return tf.reshape(values, [tf.shape(values)[0], -1])
