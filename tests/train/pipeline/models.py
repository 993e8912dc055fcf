"""Two models on real data: a perceptron on scikit-learn's digits, a transformer on its texts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn.functional import cross_entropy

SEQUENCE = 16


@dataclass(frozen=True, kw_only=True)
class Task:
    """A model, its batch, and a loss summed over rows."""

    make: Callable[[], nn.Module]
    rows: torch.Tensor
    targets: torch.Tensor
    learning_rate: float

    def loss(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return cross_entropy(outputs, targets, reduction="sum")


def perceptron() -> nn.Module:
    """Nine blocks on [rows, 64]."""
    torch.manual_seed(7)
    layers: list[nn.Module] = []
    for width in (64, 32, 32, 32):
        layers += [nn.Linear(width, 32), nn.Tanh()]
    return nn.Sequential(*layers, nn.Linear(32, 10))


class Attention(nn.Module):
    """One causal head with a residual sum."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.mixed = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.feed = nn.Sequential(
            nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        query, key, value = self.mixed(self.norm(x)).chunk(3, dim=-1)
        x = x + self.out(
            nn.functional.scaled_dot_product_attention(query, key, value, is_causal=True)
        )
        return x + self.feed(x)


class Transformer(nn.Module):
    """Next characters of [rows, SEQUENCE] of text: logits [rows, characters, SEQUENCE]."""

    def __init__(self, num_characters: int = 128, width: int = 16, depth: int = 6) -> None:
        super().__init__()
        self.embedding = nn.Embedding(num_characters, width)
        self.place = nn.Parameter(torch.zeros(SEQUENCE, width))
        self.blocks = nn.ModuleList(Attention(width) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, num_characters, bias=False)

    def forward(self, text: torch.Tensor) -> torch.Tensor:
        x = self.embedding(text) + self.place
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x)).transpose(1, 2)


def transformer() -> nn.Module:
    torch.manual_seed(7)
    return Transformer()


def digits(num_rows: int) -> Task:
    rows, labels = load_digits(return_X_y=True)
    return Task(
        make=perceptron,
        rows=torch.tensor(rows[:num_rows] / 16, dtype=torch.float32),
        targets=torch.tensor(labels[:num_rows]),
        learning_rate=0.5,
    )


def text(num_rows: int) -> Task:
    """What scikit-learn says about its digits; targets are the characters that follow."""
    characters = torch.tensor(list(load_digits().DESCR.encode("ascii", "replace")))
    windows = characters[: num_rows * (SEQUENCE + 1)].view(num_rows, SEQUENCE + 1)
    return Task(
        make=transformer,
        rows=windows[:, :-1],
        targets=windows[:, 1:].contiguous(),
        learning_rate=0.1,
    )
