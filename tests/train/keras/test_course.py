"""What comes next in a training of Keras, without TensorFlow."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from raymlops.errors import TrainingError
from raymlops.train import CheckpointPolicy
from raymlops.train.keras.checkpoints import Checkpoints
from raymlops.train.keras.course import Course
from raymlops.train.loop.progress import Progress
from tests.train.keras.specs import MLP


class Left(Checkpoints):
    """One that was saved with this progress."""

    def __init__(self, progress: Progress, folder: Path) -> None:
        super().__init__(folder, CheckpointPolicy(), settle=None, told=lambda step: step)
        self._left = progress

    def restore(self, state: Any) -> Progress:
        return self._left


def test_an_epoch_that_was_read_at_the_last_step_is_ended(tmp_path: Path) -> None:
    """A training that was cut off there had no loss of its last epoch."""
    told: list[Mapping[str, float]] = []
    course = Course(
        replace(MLP, max_steps=7),
        333,
        precision="fp32",
        checkpoints=Left(Progress(step=7, batch=7, loss_sum=333.0), tmp_path),
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


@pytest.mark.parametrize("num_rows", [333, None])  # those of before kept none
def test_an_epoch_goes_on_with_as_many_rows(num_rows: int | None, tmp_path: Path) -> None:
    before = Progress(step=3, batch=3, loss_sum=150.0, num_rows=num_rows)
    course = going_on(before, 333, tmp_path)
    assert course.progress == replace(before, num_rows=333)


def test_an_epoch_does_not_go_on_with_other_rows(tmp_path: Path) -> None:
    """It ended at once, and its train_loss was the sum over 150 rows divided by 120."""
    within = Progress(step=3, batch=3, loss_sum=150.0, num_rows=333)
    told = "checkpoint of step 3 is within an epoch of 333 rows, and there are 120 now"
    with pytest.raises(TrainingError, match=told):
        going_on(within, 120, tmp_path)
    between = Progress(step=7, epoch=2, num_rows=333)
    assert going_on(between, 120, tmp_path).progress.num_rows == 120


def going_on(before: Progress, num_rows: int, folder: Path) -> Course:
    nothing: Any = None
    checkpoints = Left(before, folder)
    course = Course(MLP, num_rows, precision="fp32", checkpoints=checkpoints, log=None)
    course.begin(nothing)
    return course
