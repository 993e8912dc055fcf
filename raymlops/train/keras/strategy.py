"""Where copies of the model are kept: on this process's devices, or on those of all workers."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import tensorflow as tf

_CONFIG = "TF_CONFIG"


def join(addresses: Sequence[str], rank: int) -> None:
    """Tells TensorFlow in this process who trains with it: workers at host:port, by rank."""
    cluster = {"worker": list(addresses)}
    os.environ[_CONFIG] = json.dumps(
        {"cluster": cluster, "task": {"type": "worker", "index": rank}}
    )


def make_strategy(*, num_threads: int) -> tf.distribute.Strategy:
    """Mirrored over this process's devices, or over those of all that were told of by `join`.

    It is the first thing that a process does with TensorFlow, and it waits for the others.
    """
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(num_threads)
    if _CONFIG in os.environ:
        return tf.distribute.MultiWorkerMirroredStrategy()
    return tf.distribute.MirroredStrategy()
