"""Where copies of the model are kept: on this process's devices, or on those of all workers."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from raymlops.errors import TrainingError
from raymlops.models.autograph import keep_autograph_in_memory
from raymlops.train.spec import DeviceName

if TYPE_CHECKING:
    import tensorflow as tf

_CONFIG = "TF_CONFIG"


def join(addresses: Sequence[str], rank: int) -> None:
    """Tells TensorFlow in this process who trains with it: workers at host:port, by rank."""
    cluster = {"worker": list(addresses)}
    os.environ[_CONFIG] = json.dumps(
        {"cluster": cluster, "task": {"type": "worker", "index": rank}}
    )


def make_strategy(*, device: DeviceName = "cpu", num_threads: int) -> tf.distribute.Strategy:
    """Mirrored over this process's devices, or over those of all that were told of by `join`.

    It is the first thing that a process does with TensorFlow, and it waits for the others.

    Raises:
        TrainingError: `device` is cuda, and TensorFlow would train on the CPU instead.
    """
    import tensorflow as tf

    keep_autograph_in_memory()
    if device == "cuda" and not tf.config.list_physical_devices("GPU"):
        raise TrainingError(
            f"device is cuda, and TensorFlow {tf.__version__} sees no GPU: install "
            "'raymlops[tensorflow]' in a build for the GPU's driver, or set device to cpu"
        )
    if device == "cpu":
        # Ray hides no GPU from a worker that asked for none, and strategies take all they see.
        tf.config.set_visible_devices([], "GPU")
    tf.config.threading.set_intra_op_parallelism_threads(num_threads)
    if _CONFIG in os.environ:
        return tf.distribute.MultiWorkerMirroredStrategy()
    return tf.distribute.MirroredStrategy()


def of_each_worker(strategy: tf.distribute.Strategy, numbers: Sequence[int]) -> list[list[int]]:
    """The numbers that all workers give, by rank; every worker calls it."""
    import tensorflow as tf

    mine = strategy.experimental_distribute_values_from_function(
        lambda _: tf.constant([numbers], tf.int64)
    )
    num_devices = len(strategy.experimental_local_results(mine))
    by_replica = strategy.gather(mine, axis=0).numpy()  # those of a worker beside each other
    found: list[list[int]] = by_replica[::num_devices].tolist()
    return found


def told_by_first(strategy: tf.distribute.Strategy, step: int | None) -> int | None:
    """The step that rank 0 gives, in every worker; all call it."""
    (first, *_) = of_each_worker(strategy, [-1 if step is None else step])
    return None if first[0] < 0 else first[0]
