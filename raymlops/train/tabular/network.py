"""The network: a multilayer perceptron from an encoded row to a logit, logits, or a number."""

from __future__ import annotations

import torch
from torch import nn


class Perceptron(nn.Module):
    """Linear, ReLU and dropout a hidden width, then one output: [rows, width] to [rows]; or with
    `num_classes` a logit for each: [rows, width] to [rows, classes]."""

    def __init__(
        self, width: int, hidden: tuple[int, ...], dropout: float, num_classes: int = 0
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for wide in hidden:
            layers += [nn.Linear(width, wide), nn.ReLU(), nn.Dropout(dropout)]
            width = wide
        self.layers = nn.Sequential(*layers, nn.Linear(width, num_classes or 1))
        self.num_classes = num_classes

    def forward(self, matrix: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.layers(matrix)
        return logits if self.num_classes else logits.squeeze(1)

    @torch.no_grad()
    def rescale(self, *, factor: float, offset: float) -> None:
        """From now on puts out `factor` times what it did, plus `offset`."""
        last = self.layers[-1]
        assert isinstance(last, nn.Linear), "the last layer is the output"
        last.weight.mul_(factor)
        last.bias.mul_(factor).add_(offset)
