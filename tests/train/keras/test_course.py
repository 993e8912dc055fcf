"""What comes next in a training of Keras, without TensorFlow."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from raymlops.train import CheckpointPolicy
from raymlops.train.keras.checkpoints import Checkpoints
from raymlops.train.keras.course import Course
from raymlops.train.loop.progress import Progress
from tests.train.keras.specs import MLP


class Left(Checkpoints):
    """One that was saved at the seventh step, the last of an epoch."""

    def restore(self, state: Any) -> Progress:
        return Progress(step=7, batch=7, loss_sum=333.0)


def test_an_epoch_that_was_read_at_the_last_step_is_ended(tmp_path: Path) -> None:
    """A training that was cut off there had no loss of its last epoch."""
    told: list[Mapping[str, float]] = []
    course = Course(
        replace(MLP, max_steps=7),
        333,
        precision="fp32",
        checkpoints=Left(tmp_path, CheckpointPolicy(), settle=None),
        log=lambda values, step: told.append(values),
    )
    nothing: Any = None  # a state is neither filled nor read
    course.begin(nothing)
    assert not course.is_over
    assert list(course.rest_of_epoch()) == []
    course.after_epoch(lambda: 0.5)
    assert course.is_over
    assert told == [{"train_loss": 1.0, "validation_loss": 0.5}]
    assert course.progress.epoch == 2
