from __future__ import annotations

import pytest
import torch
from sklearn.datasets import load_digits
from torch import nn

from raymlops.train.compression import Gradient


@pytest.fixture(scope="package")
def gradients() -> list[Gradient]:
    """Those of six workers, on 100 digits each."""
    images, labels = load_digits(return_X_y=True)
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
    found = []
    for worker in range(6):
        rows = slice(100 * worker, 100 * worker + 100)
        network.zero_grad()
        logits = network(torch.tensor(images[rows], dtype=torch.float32) / 16)
        torch.autograd.backward(nn.functional.cross_entropy(logits, torch.tensor(labels[rows])))
        named = dict(network.named_parameters())
        found.append(
            Gradient(
                vector=torch.cat([each.grad.view(-1) for each in named.values()]),
                names=tuple(named),
                shapes=tuple(tuple(each.shape) for each in named.values()),
            )
        )
    return found
