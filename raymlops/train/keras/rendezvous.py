"""How Ray Train's workers learn of each other before they train with TensorFlow.

Ray's own TensorflowTrainer imports TensorFlow in driver and controller as well, seconds and
hundreds of megabytes each, and turns every `tensorflow.keras` into tf_keras.
"""

from __future__ import annotations

import socket
from dataclasses import dataclass
from typing import Any

from ray.train.backend import Backend, BackendConfig

from raymlops.train.keras.strategy import join


@dataclass
class Rendezvous(BackendConfig):
    """Joins the workers of a run by TF_CONFIG; a lone one is told of nobody."""

    @property
    def backend_cls(self) -> type[Backend]:
        return _Meeting


class _Meeting(Backend):
    def on_start(self, worker_group: Any, backend_config: BackendConfig) -> None:
        if len(worker_group) == 1:
            return
        import ray

        addresses = worker_group.execute(_free_address)
        told = [
            worker_group.execute_single_async(rank, join, addresses, rank)
            for rank in range(len(addresses))
        ]
        ray.get(told)


def _free_address() -> str:
    """Where this worker will listen. TensorFlow is imported first: while that took its seconds,
    another process could take the port."""
    import ray
    import tensorflow  # noqa: F401

    untyped: Any = ray.util
    host = untyped.get_node_ip_address()
    with socket.socket() as taken:
        taken.bind(("", 0))  # as TensorFlow does: it listens on every interface
        return f"{host}:{taken.getsockname()[1]}"
