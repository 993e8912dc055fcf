"""The hook in real DistributedDataParallel, on real workers and real data."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pytest
import torch
import torch.distributed as dist
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from raymlops.data import read_columns
from raymlops.demo.flights import load_flights
from raymlops.models import Preprocessing
from raymlops.operate import load_settings
from raymlops.operate.settings import packaged_config
from raymlops.train.compression import (
    BFloat16,
    CompressionHook,
    Compressor,
    Float16,
    Int8,
    PowerSGD,
    RandomK,
    TopK,
)
from raymlops.train.compression.base import Gradient, Memory, Rounds, Seat
from tests.endurance import endurance
from tests.train.ranks import run_ranks

COMPRESSORS: Mapping[str, Compressor | None] = {
    "none": None,
    "fp16": Float16(),
    "bf16": BFloat16(),
    "int8": Int8(),
    "top-k": TopK(ratio=0.01),
    "random-k": RandomK(ratio=0.25),
    "powersgd": PowerSGD(rank=2),
}


@dataclass(frozen=True, kw_only=True)
class Task:
    """Rows to learn from and, after `num_train` of them, to be judged on."""

    rows: Tensor
    labels: Tensor
    num_train: int
    widths: tuple[int, ...]
    epochs: int
    batch_size: int
    learning_rate: float

    def network(self) -> nn.Sequential:
        torch.manual_seed(0)
        first, hidden, last = self.widths
        return nn.Sequential(nn.Linear(first, hidden), nn.ReLU(), nn.Linear(hidden, last))

    def judge(self, network: nn.Module) -> tuple[float, float]:
        """Accuracy and log loss."""
        labels = self.labels[self.num_train :]
        with torch.no_grad():
            logits = network(self.rows[self.num_train :])
        right = (logits.argmax(dim=1) == labels).float().mean()
        return float(right), float(nn.functional.cross_entropy(logits, labels))


@dataclass(frozen=True, kw_only=True)
class Trained:
    accuracy: float
    log_loss: float
    weights: list[float]
    sent_bytes: int


def train(task: Task, compressor: Compressor | None) -> Trained:
    model = DistributedDataParallel(task.network(), bucket_cap_mb=0.01)  # several buckets
    hook = None if compressor is None else CompressionHook(compressor, model)
    optimizer = torch.optim.SGD(model.parameters(), lr=task.learning_rate)
    for epoch in range(task.epochs):
        order = torch.from_numpy(np.random.default_rng(epoch).permutation(task.num_train))
        for batch in order.split(task.batch_size):
            mine = batch[dist.get_rank() :: dist.get_world_size()]
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(task.rows[mine]), task.labels[mine])
            torch.autograd.backward(loss)
            optimizer.step()
    if hook is not None:
        hook.close()
    accuracy, log_loss = task.judge(model.module)
    return Trained(
        accuracy=accuracy,
        log_loss=log_loss,
        weights=torch.cat([each.detach().view(-1) for each in model.parameters()]).tolist(),
        sent_bytes=0 if hook is None else hook.sent_bytes,
    )


def train_with(task: Task, names: Sequence[str]) -> dict[str, Trained]:
    return {name: train(task, COMPRESSORS[name]) for name in names}


def digits(**changes: int) -> Task:
    images, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(1797)
    settings = {"epochs": 16, **changes}
    return Task(
        rows=torch.tensor(images[order] / 16, dtype=torch.float32),
        labels=torch.tensor(labels[order]),
        num_train=1197,
        widths=(64, 64, 10),
        batch_size=48,
        learning_rate=0.1,
        **settings,
    )


def flights() -> Task:
    """Late or not, 30,000 of the year's flights."""
    schema = load_settings([packaged_config("flights.yaml")]).settings.data
    assert schema is not None
    chosen = np.random.default_rng(0).permutation(327_346)[:30_000]
    table = load_flights().take(chosen)
    columns = read_columns(table, schema.features)
    rows = Preprocessing.fit(schema.features, columns).transform(columns)
    return Task(
        rows=torch.from_numpy(rows),
        labels=torch.from_numpy(table["late"].to_numpy().astype(np.int64)),
        num_train=20_000,
        widths=(rows.shape[1], 32, 2),
        epochs=2,
        batch_size=256,
        learning_rate=0.5,
    )


# Of flights most are in time, so that accuracy alone says little: guessing the share of late ones
# has a log loss of 0.547.
@pytest.mark.parametrize(
    ("task", "floor", "ceiling"), [(flights, 0.76, 0.53), endurance(digits, 0.94, 0.3)]
)
def test_training_ends_where_it_does_without_compression(
    task: Callable[[], Task], floor: float, ceiling: float
) -> None:
    first, second = run_ranks(2, train_with, task(), tuple(COMPRESSORS))
    plain = first.pop("none")
    assert plain.accuracy > floor
    assert plain.log_loss < ceiling
    for name, trained in first.items():
        assert abs(trained.accuracy - plain.accuracy) <= 0.005, name
        assert abs(trained.log_loss - plain.log_loss) <= 0.02, name
        assert trained.weights == second[name].weights, name


def test_three_workers_stay_alike_and_near_the_uncompressed() -> None:
    done = run_ranks(3, train_with, digits(epochs=1), ("none", "fp16", "int8"))
    for name, atol in (("fp16", 1e-3), ("int8", 0.02)):
        assert done[0][name].weights == done[1][name].weights == done[2][name].weights
        assert np.allclose(done[0][name].weights, done[0]["none"].weights, rtol=0, atol=atol)


def spoil() -> list[bool]:
    """Whether each step's gradients were finite, as a loss scaler on this worker saw it."""
    rank, task = dist.get_rank(), digits()
    model = DistributedDataParallel(task.network())
    finite = []
    with CompressionHook(TopK(ratio=0.01), model):
        for step in range(4):
            model.zero_grad()
            rows = task.rows[step * 64 + rank * 32 :][:32].clone()
            if step == 1 and rank == 1:
                rows[3, 5] = math.inf
            torch.autograd.backward(model(rows).square().mean())
            finite.append(
                all(bool(each.grad.isfinite().all()) for each in model.parameters())  # type: ignore[union-attr]
            )
    return finite


def test_all_workers_see_what_one_of_them_overflowed_and_forget_it() -> None:
    assert run_ranks(2, spoil) == [[True, False, True, True]] * 2


def resume() -> bool:
    """Whether a training that went on from a checkpoint ended as one that was not interrupted."""
    rank, task, states = dist.get_rank(), digits(), []

    def steps(model: DistributedDataParallel, numbers: range) -> None:
        for step in numbers:
            model.zero_grad()
            rows = slice(step * 64 + rank * 32, step * 64 + rank * 32 + 32)
            loss = nn.functional.cross_entropy(model(task.rows[rows]), task.labels[rows])
            torch.autograd.backward(loss)
            with torch.no_grad():
                for each in model.parameters():
                    each -= 0.1 * each.grad

    whole = DistributedDataParallel(task.network())
    with CompressionHook(PowerSGD(), whole) as hook:
        steps(whole, range(3))
        states.append(hook.state_dict())
        weights = {name: each.clone() for name, each in whole.module.state_dict().items()}
        steps(whole, range(3, 6))
    resumed = DistributedDataParallel(task.network())
    resumed.module.load_state_dict(weights)
    with CompressionHook(PowerSGD(), resumed) as hook:
        hook.load_state_dict(states[0])
        steps(resumed, range(3, 6))
    return all(
        torch.equal(a, b) for a, b in zip(whole.parameters(), resumed.parameters(), strict=True)
    )


def test_a_resumed_training_ends_as_an_uninterrupted_one() -> None:
    assert run_ranks(2, resume) == [True, True]


class OneOf(nn.Module):
    """Uses one of two layers."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(4, 4, bias=False) for _ in range(2))

    def forward(self, x: Tensor, number: int) -> Tensor:
        outputs: Tensor = self.layers[number](x)
        return outputs


def use_once() -> Tensor:
    """All that comes for a layer that the first step alone uses."""
    layers = OneOf()
    model = DistributedDataParallel(layers, find_unused_parameters=True)
    received = torch.zeros(4, 4)
    with CompressionHook(RandomK(ratio=0.25), model) as hook:
        for step in range(80):
            model.zero_grad()
            torch.autograd.backward(model(torch.ones(3, 4), int(step == 0)).sum())
            hook.hand_on()
            gradient = layers.layers[1].weight.grad
            received += 0.0 if gradient is None else gradient
    return received


def test_what_was_not_sent_arrives_at_a_layer_that_is_no_longer_used() -> None:
    """It was sent, and DDP left it where it was."""
    for received in run_ranks(2, use_once):
        assert torch.allclose(received, torch.full((4, 4), 3.0))


class Breaking(TopK):
    def average(self, gradient: Gradient, memory: Memory, seat: Seat) -> Rounds:
        raise FloatingPointError("no such gradient")


def break_off() -> list[str]:
    """What a worker is told when things go wrong."""
    told = []
    model = DistributedDataParallel(digits().network())
    try:
        CompressionHook(TopK(ratio=0.1 * (dist.get_rank() + 1)), model)
    except ValueError as error:
        told.append(str(error))
    tables = nn.Sequential(nn.Embedding(9, 2, sparse=True), nn.Linear(2, 2))
    try:
        CompressionHook(TopK(), DistributedDataParallel(tables))
    except ValueError as error:
        told.append(str(error))
    with CompressionHook(Breaking(), model):
        try:
            torch.autograd.backward(model(torch.ones(4, 64)).sum())
        except RuntimeError as error:
            told.append(str(error))
    return told


def test_what_goes_wrong_is_raised_in_the_training() -> None:
    alike = "the workers compress by ['TopK(ratio=0.1)', 'TopK(ratio=0.2)'], in the order of ranks"
    for told in run_ranks(2, break_off):
        assert alike in told[0]
        assert told[1].startswith("0 makes sparse gradients, and compressors take dense ones")
        assert "no such gradient" in told[2]
