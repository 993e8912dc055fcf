"""How far a training is: all of its state that is not a tensor, and what comes next."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from raymlops.train.loop.scale import LossScale
from raymlops.train.spec import Precision, StoppingPolicy


@dataclass(frozen=True, kw_only=True)
class Progress:
    """`step` optimizer steps are done, `batch` batches of epoch `epoch`, which counts from 1.

    `loss_sum` is the summed loss of this epoch's batches, but for those whose loss was no number,
    which had `uncounted_rows`. `skips` counts skipped steps in a row, `bad_epochs` those since the
    validation loss was lowest. `num_rows` are those of an epoch, None of checkpoints before they
    were kept. `ended` says why nothing comes next.
    """

    step: int = 0
    epoch: int = 1
    batch: int = 0
    loss_sum: float = 0.0
    uncounted_rows: int = 0
    scale: LossScale = field(default_factory=LossScale)
    skips: int = 0
    lowest: float = math.inf
    bad_epochs: int = 0
    num_rows: int | None = None
    ended: str | None = None

    def after_step(
        self, loss: float, *, num_rows: int, finite: bool, precision: Precision
    ) -> Progress:
        """After a batch whose loss, summed over all its `num_rows`, is `loss`.

        A step whose loss or gradients are not finite was skipped. A loss that is not finite counts
        for nothing, and neither do its rows.
        """
        counts = math.isfinite(loss)
        return replace(
            self,
            step=self.step + 1,
            batch=self.batch + 1,
            loss_sum=self.loss_sum + (loss if counts else 0.0),
            uncounted_rows=self.uncounted_rows + (0 if counts else num_rows),
            scale=self.scale.after(precision, finite=finite),
            skips=0 if finite else self.skips + 1,
        )

    def mean_loss(self, num_rows: int) -> float:
        """This epoch's loss over those of its `num_rows` that count, no number where none does."""
        num_counted = num_rows - self.uncounted_rows
        return self.loss_sum / num_counted if num_counted else math.nan

    def after_epoch(self, validation_loss: float | None, policy: StoppingPolicy) -> Progress:
        """At the start of the next epoch, or at the end when patience is."""
        following = replace(self, epoch=self.epoch + 1, batch=0, loss_sum=0.0, uncounted_rows=0)
        if validation_loss is None:
            return following
        better = validation_loss < self.lowest
        following = replace(
            following,
            lowest=min(self.lowest, validation_loss),
            bad_epochs=0 if better else self.bad_epochs + 1,
        )
        if policy.patience is not None and following.bad_epochs >= policy.patience:
            return replace(following, ended=following._impatient(validation_loss))
        return following

    def _impatient(self, validation_loss: float) -> str:
        if self.lowest == math.inf:
            return f"the validation loss was {validation_loss} after all {self.bad_epochs} epochs"
        why = f"the validation loss has not fallen below {self.lowest:.6g} in "
        last = "" if math.isfinite(validation_loss) else f", and was {validation_loss} at last"
        return f"{why}{self.bad_epochs} epochs{last}"

    def hopeless(self, loss: float, policy: StoppingPolicy, precision: Precision) -> str | None:
        """Why the training cannot go on after what `after_step` was just told; None if it can.

        Gradients that overflow in fp16 are expected until the scale has found its place.
        """
        if self.skips == 0:
            return None
        overflow = precision == "fp16" and math.isfinite(loss) and not self.scale.is_spent
        if overflow or (policy.on_nan == "skip" and self.skips <= policy.max_skips):
            return None
        what = f"the loss is {loss}" if not math.isfinite(loss) else "gradients are not finite"
        row = f", the last of {self.skips} such steps in a row" if self.skips > 1 else ""
        return f"{what} at step {self.step} of epoch {self.epoch}{row}"

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Progress:
        return cls(**{**values, "scale": LossScale(**values["scale"])})
