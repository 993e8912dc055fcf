"""What workers push in the tests of the service, and what torch makes of it in one process."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from sklearn.datasets import load_digits

from raymlops.train.server import Client
from tests.train.server.fleet import Fleet

IMAGES = load_digits().data.astype(np.float32) / 16 - 0.5
WEIGHT = IMAGES[:40]
BIAS = IMAGES[40, :10]


def gradient_of(worker: int, sequence: int) -> dict[str, np.ndarray]:
    """What a worker pushes as its push `sequence`: some images, as long as a gradient."""
    first = (worker * 131 + sequence * 17) % 1700
    return {"weight": IMAGES[first : first + 40], "bias": IMAGES[first + 40, :10]}


def push_many(client: Client, worker: int, first: int, last: int) -> None:
    for sequence in range(first, last + 1):
        client.push(gradient_of(worker, sequence))


def replay(served: Fleet, optimizer: Callable[..., torch.optim.Optimizer]) -> np.ndarray:
    """The flat vector after every journaled push in its order, by torch in one process."""
    partition = served.spec.partition
    result = []
    for shard in range(partition.num_shards):
        (start, *_) = partition.values_of(shard, {"weight": WEIGHT, "bias": BIAS})
        parameters = torch.from_numpy(start.copy()).requires_grad_()
        steps = optimizer([parameters])
        for entry in served.look(shard).blocks[0].journal():
            gradient = gradient_of(entry.worker, entry.sequence)
            (mine, *_) = partition.values_of(shard, gradient)
            parameters.grad = torch.from_numpy(mine)
            steps.step()
        result.append(parameters.detach().numpy())
    return np.concatenate(result)


def state(served: Fleet) -> np.ndarray:
    shards = range(served.spec.partition.num_shards)
    blocks = [served.look(shard).blocks[0] for shard in shards]
    return np.concatenate([block.buffer(block.version)[0] for block in blocks])
