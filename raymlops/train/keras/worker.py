"""What runs in each Ray Train worker that trains with TensorFlow."""

from __future__ import annotations

import contextlib
import io
import json
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from raymlops.train.keras.checkpoints import Checkpoints
from raymlops.train.keras.spec import LoopName
from raymlops.train.keras.strategy import make_strategy, told_by_first
from raymlops.train.workers.naming import name_of, take_name
from raymlops.train.workers.worker import Recorder, Task, deliver, recorder

if TYPE_CHECKING:
    import tensorflow as tf

    from raymlops.train.keras.loop import Loop

WEIGHTS = "weights.npz"
PROGRESS = "progress.json"


def work(config: dict[str, Any]) -> None:
    """Trains, and leaves the weights of the model in the task's folder."""
    from ray import train

    task: Task = config["task"]
    rank = train.get_context().get_world_rank()
    take_name(name_of(task.run_id, task.plan, rank))
    strategy = make_strategy(device=task.spec.device, num_threads=task.num_threads)
    with recorder(task) if rank == 0 else contextlib.nullcontext(None) as log:
        loop = loop_named(task.spec.loop)(
            task.spec, strategy, checkpoints=_checkpoints(task, strategy, log), log=log
        )
        if log is not None:
            log.begin(
                num_workers=train.get_context().get_world_size(), num_steps=loop.course.num_steps
            )
        progress = loop.run()
    weights = loop.weights()
    if rank == 0:
        file = io.BytesIO()
        np.savez(file, allow_pickle=False, **weights)
        told = json.dumps(progress.to_dict()).encode()
        deliver(task, {WEIGHTS: file.getvalue(), PROGRESS: told})


def _checkpoints(
    task: Task, strategy: tf.distribute.Strategy, log: Recorder | None
) -> Checkpoints | None:
    """Of the worker with a log those that are written: after what it told of their steps, which
    nobody would tell again."""
    if not task.spec.checkpoints.every_steps:
        return None
    return Checkpoints(
        task.checkpoints,
        task.spec.checkpoints,
        settle=None if log is None else log.flush,
        told=partial(told_by_first, strategy),
    )


def loop_named(name: LoopName) -> type[Loop]:
    from raymlops.train.keras.custom import CustomLoop
    from raymlops.train.keras.fit import FitLoop

    return {"custom": CustomLoop, "fit": FitLoop}[name]
