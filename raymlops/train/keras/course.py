"""The course of a training: how far it is, what it tells, when it saves, when it is over."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from itertools import islice

from raymlops.errors import TrainingError
from raymlops.train.keras.checkpoints import Checkpoints
from raymlops.train.keras.spec import KerasSpec
from raymlops.train.keras.state import State
from raymlops.train.loop.alike import require_same_epoch
from raymlops.train.loop.batches import Batch, epoch_batches, num_steps
from raymlops.train.loop.meter import Meter
from raymlops.train.loop.progress import Progress
from raymlops.train.spec import Precision

Log = Callable[[Mapping[str, float], int], None]
"""Takes values and the step they belong to; one worker has it, and it must not take long."""


class Course:
    """What both loops have in common; every worker walks the same one."""

    def __init__(
        self,
        spec: KerasSpec,
        num_rows: int,
        *,
        precision: Precision,
        checkpoints: Checkpoints | None,
        log: Log | None,
    ) -> None:
        self.progress = Progress(num_rows=num_rows)
        self._spec = spec
        self._num_rows = num_rows
        self._precision = precision
        self._checkpoints = checkpoints
        self._log = log
        self.meter = Meter()

    def begin(self, state: State) -> None:
        """Fills `state` from the newest checkpoint, if there is one.

        Raises:
            TrainingError: it is of another model, or within an epoch of another number of rows.
        """
        before = self._checkpoints.restore(state) if self._checkpoints is not None else None
        if before is not None:
            require_same_epoch(before, self._num_rows)
            self.progress = replace(before, num_rows=self._num_rows)
        self.meter.restart()

    def end(self) -> Progress:
        if self._checkpoints is not None:
            self._checkpoints.wait()
        return self.progress

    @property
    def is_over(self) -> bool:
        done, most = self.progress, self._spec.max_steps
        if self._has_read_epoch:  # a checkpoint of the last step may be of one that has to end
            return False
        return (
            done.ended is not None
            or done.epoch > self._spec.epochs
            or (most is not None and done.step >= most)
        )

    @property
    def _has_read_epoch(self) -> bool:
        return self.progress.batch * self._spec.batch_size >= self._num_rows

    @property
    def num_steps(self) -> int:
        """How many steps there are if nothing ends the training early."""
        return num_steps(self._spec, self._num_rows)

    @property
    def num_to_come(self) -> int:
        """How many steps are left of this epoch."""
        left = math.ceil(self._num_rows / self._spec.batch_size) - self.progress.batch
        most = self._spec.max_steps
        return left if most is None else min(left, most - self.progress.step)

    def rest_of_epoch(self) -> Iterator[Batch]:
        """The global batches of the steps left of this epoch."""
        spec, done = self._spec, self.progress
        batches = epoch_batches(
            self._num_rows, batch_size=spec.batch_size, seed=spec.seed, epoch=done.epoch
        )
        return islice(batches, done.batch, done.batch + self.num_to_come)

    def after_step(
        self, loss: float, batch: Batch, state: State, *, finite: bool, **more: float
    ) -> None:
        """Counts a step whose mean loss over the global batch was `loss`, and whose gradients were
        all `finite`.

        Raises:
            TrainingError: the loss or a gradient is no number, for which no scale of the loss is
                to blame; the step is not saved.
        """
        spec = self._spec
        loss_sum = loss * batch.global_size
        finite = finite and math.isfinite(loss)
        self.progress = self.progress.after_step(
            loss_sum,
            num_rows=batch.global_size,
            finite=finite,
            precision=self._precision,
        )
        skipped = {} if finite else {"skipped": 1.0}
        self._tell({"loss": loss, **skipped, **more, **self.meter.finish(batch.global_size)})
        why = self.progress.hopeless(loss_sum, spec.stopping, self._precision)
        if why is not None:
            raise TrainingError(
                f"{why}; try a learning rate below {spec.optimizer.learning_rate:g}, clip_norm, or "
                "look for such numbers in the data"
            )
        if self._checkpoints is not None and self._checkpoints.is_due(self.progress.step):
            self._checkpoints.save(state, self.progress)

    def after_epoch(self, validate: Callable[[], float | None]) -> None:
        """Ends the epoch, if all its batches are done."""
        if not self._has_read_epoch:
            return
        losses = {"train_loss": self.progress.mean_loss(self._num_rows)}
        validation = validate()
        if validation is not None:
            losses["validation_loss"] = validation
        self._tell(losses)
        self.progress = self.progress.after_epoch(validation, self._spec.stopping)
        self.meter.restart()

    def _tell(self, values: Mapping[str, float]) -> None:
        if self._log is not None:
            self._log(values, self.progress.step)
