"""The training loop: the same lines for one process and for every data-parallel worker."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torch.nn.functional import binary_cross_entropy_with_logits

from raymlops.errors import TrainingError
from raymlops.train.batches import Batch, epoch_batches
from raymlops.train.tabular.spec import TabularSpec


@dataclass(frozen=True, kw_only=True)
class Arrays:
    """Encoded rows [rows, width] and their 0/1 labels [rows], to train on and to validate on."""

    train: NDArray[np.float32]
    train_labels: NDArray[np.float32]
    validation: NDArray[np.float32]
    validation_labels: NDArray[np.float32]

    @property
    def width(self) -> int:
        return int(self.train.shape[1])


@dataclass(frozen=True, kw_only=True)
class Epoch:
    """Mean loss a row after epoch `number`, counted from 1."""

    number: int
    train_loss: float
    validation_loss: float


@dataclass(frozen=True, kw_only=True)
class Seat:
    """A worker's place among the data-parallel workers."""

    rank: int = 0
    world_size: int = 1

    def total(self, values: list[float]) -> list[float]:
        """The element-wise sum of every worker's values."""
        if self.world_size == 1:
            return values
        tensor = torch.tensor(values, dtype=torch.float64)
        dist.all_reduce(tensor)
        return [float(value) for value in tensor]


def fit(
    model: torch.nn.Module,
    arrays: Arrays,
    spec: TabularSpec,
    *,
    seat: Seat = Seat(),
    on_epoch: Callable[[Epoch], None],
) -> None:
    """Trains `model` in place; with more than one worker it is wrapped in DDP already.

    Raises:
        TrainingError: the loss stopped being a number.
    """
    torch.manual_seed(spec.seed + seat.rank)  # dropout differs between workers
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=spec.learning_rate, weight_decay=spec.weight_decay
    )
    for number in range(1, spec.epochs + 1):
        batches = epoch_batches(
            len(arrays.train),
            batch_size=spec.batch_size,
            seed=spec.seed,
            epoch=number,
            rank=seat.rank,
            world_size=seat.world_size,
        )
        model.train()
        loss_sum = sum(_step(model, optimizer, arrays, batch, seat) for batch in batches)
        epoch = _measure(model, arrays, seat, number, float(loss_sum))
        if not np.isfinite(epoch.train_loss):
            raise TrainingError(
                f"the loss is {epoch.train_loss} after epoch {number}; "
                f"try a learning rate below {spec.learning_rate:g}"
            )
        on_epoch(epoch)


def _step(
    model: torch.nn.Module,
    optimizer: torch.optim.Optimizer,
    arrays: Arrays,
    batch: Batch,
    seat: Seat,
) -> float:
    """One optimiser step; returns this worker's summed loss."""
    rows = torch.from_numpy(arrays.train[batch.rows])
    labels = torch.from_numpy(arrays.train_labels[batch.rows])
    loss = binary_cross_entropy_with_logits(model(rows), labels, reduction="sum")
    optimizer.zero_grad()
    # DDP averages gradients over workers: scaled so, the average is the mean over all rows of the
    # global batch, also when the workers' parts differ in size.
    torch.autograd.backward(loss * (seat.world_size / batch.global_size))
    optimizer.step()
    return float(loss.detach())


@torch.no_grad()
def _measure(
    model: torch.nn.Module, arrays: Arrays, seat: Seat, number: int, loss_sum: float
) -> Epoch:
    model.eval()
    mine = slice(seat.rank, None, seat.world_size)
    logits = model(torch.from_numpy(arrays.validation[mine].copy()))
    labels = torch.from_numpy(arrays.validation_labels[mine].copy())
    validation = float(binary_cross_entropy_with_logits(logits, labels, reduction="sum"))
    train_total, validation_total = seat.total([loss_sum, validation])
    return Epoch(
        number=number,
        train_loss=train_total / len(arrays.train),
        validation_loss=validation_total / len(arrays.validation),
    )
