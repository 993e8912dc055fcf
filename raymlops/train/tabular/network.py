"""The network: a multilayer perceptron from an encoded row to a logit."""

from __future__ import annotations

import torch
from torch import nn


class Perceptron(nn.Module):
    """Linear, ReLU and dropout a hidden width, then one logit: [rows, width] to [rows]."""

    def __init__(self, width: int, hidden: tuple[int, ...], dropout: float) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for wide in hidden:
            layers += [nn.Linear(width, wide), nn.ReLU(), nn.Dropout(dropout)]
            width = wide
        self.layers = nn.Sequential(*layers, nn.Linear(width, 1))

    def forward(self, matrix: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.layers(matrix).squeeze(1)
        return logits
