"""Who takes part in rounds: workers of every contestant, and a server of Ray's examples."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import numpy as np
import ray
from numpy.typing import NDArray

from benchmarks.figures import seconds
from raymlops.train.server import (
    ParameterServer,
)

RATE = 0.5
NUM_ARRAYS = 10
Arrays = dict[str, NDArray[np.float32]]
Span = tuple[float, float]
"""When a worker's gradient was ready, and when it had the new weights; seconds of the node's clock,
which all processes share."""


def arrays_of(size_mb: float, value: float) -> Arrays:
    elements = int(size_mb * 1e6 / 4 / NUM_ARRAYS)
    return {f"layer{index}": np.full(elements, value, np.float32) for index in range(NUM_ARRAYS)}


class Worker:
    """One worker of every contestant. Worker r's gradient is r + 1 everywhere."""

    def __init__(self, rank: int, size_mb: float) -> None:
        self._rank = rank
        self._gradients = arrays_of(size_mb, rank + 1)
        self._flat = np.concatenate(list(self._gradients.values()))
        self._weights = np.zeros_like(self._flat)

    @ray.method
    def join(self, server: ParameterServer) -> None:
        self._client = server.client(worker=self._rank)

    @ray.method
    def served(self, rounds: int, lent: bool) -> list[Span]:
        """Rounds with the parameter server, of gradients in `lent` room or of others."""
        client, spans = self._client, []
        for _ in range(rounds):
            gradients: Mapping[str, Any] = self._gradients
            if lent:
                gradients = client.buffers()
                for name, values in self._gradients.items():
                    np.copyto(gradients[name], values)
            started = time.perf_counter()
            client.push(gradients)
            self._pulled = client.pull()
            spans.append((started, time.perf_counter()))
        return spans

    @ray.method
    def level(self) -> float:
        """The one value that all pulled weights have."""
        (level,) = {
            float(value) for each in self._pulled.values() for value in (each.min(), each.max())
        }
        return level

    @ray.method
    def leave(self) -> None:
        self._client.close()

    @ray.method
    def gradient(self, weights: Arrays) -> Arrays:
        """One round through the object store: weights come in, a gradient goes out."""
        assert len(weights) == NUM_ARRAYS
        return self._gradients

    @ray.method
    def meet(self, port: int, num_workers: int) -> None:
        import torch.distributed as dist

        dist.init_process_group(
            "gloo",
            init_method=f"tcp://127.0.0.1:{port}",
            rank=self._rank,
            world_size=num_workers,
        )

    @ray.method
    def reduced(self, rounds: int) -> list[Span]:
        """Rounds with gloo; every worker steps its own weights."""
        import torch
        import torch.distributed as dist

        weights, gradient = torch.from_numpy(self._weights), torch.from_numpy(self._flat).clone()
        own, spans = gradient.clone(), []
        for _ in range(rounds):
            gradient.copy_(own)
            started = time.perf_counter()
            dist.all_reduce(gradient)
            weights.add_(gradient, alpha=-RATE / dist.get_world_size())
            spans.append((started, time.perf_counter()))
        return spans

    @ray.method
    def reduced_level(self) -> float:
        (level,) = {float(self._weights.min()), float(self._weights.max())}
        return level

    @ray.method
    def copied(self, rounds: int) -> list[float]:
        """Seconds to copy the gradient once."""
        return [seconds(lambda: np.copyto(self._weights, self._flat)) for _ in range(rounds)]


class DictServer:
    """The parameter server of Ray's examples: a dict of arrays, handed around as objects."""

    def __init__(self, weights: Arrays) -> None:
        self._weights = {name: values.copy() for name, values in weights.items()}

    @ray.method
    def apply(self, *gradients: Arrays) -> Arrays:
        for name in self._weights:
            mean = sum(each[name] for each in gradients) / len(gradients)
            self._weights[name] = self._weights[name] - RATE * mean
        return self._weights


def object_store_rounds(
    workers: list[Any], server: Any, weights: Any, rounds: int
) -> tuple[Any, list[float]]:
    taken = []
    for _ in range(rounds):
        started = time.perf_counter()
        weights = server.apply.remote(*[worker.gradient.remote(weights) for worker in workers])
        ray.wait([weights])
        taken.append(time.perf_counter() - started)
    return weights, taken
