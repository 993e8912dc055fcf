from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.datasets import load_breast_cancer
from sklearn.preprocessing import StandardScaler

from raymlops.errors import TrainingError
from raymlops.train import ParallelPlan, TabularSpec
from raymlops.train.loop.batches import epoch_batches
from raymlops.train.tabular.arrays import Arrays
from raymlops.train.tabular.trainer import Epoch, fit_alone

SPEC = TabularSpec(hidden=(16,), dropout=0.0, epochs=4, batch_size=64, learning_rate=1e-2)


@pytest.fixture(scope="module")
def arrays() -> Arrays:
    rows, labels = load_breast_cancer(return_X_y=True)
    rows = StandardScaler().fit_transform(rows).astype(np.float32)
    labels = labels.astype(np.float32)
    return Arrays(
        train=rows[:450],
        train_labels=labels[:450],
        validation=rows[450:],
        validation_labels=labels[450:],
    )


def fitted(arrays: Arrays, spec: TabularSpec) -> tuple[torch.nn.Module, list[Epoch]]:
    epochs: list[Epoch] = []
    return fit_alone(arrays, spec, on_epoch=epochs.append), epochs


@pytest.mark.parametrize("world_size", [1, 2, 3, 5])
def test_workers_share_the_very_same_batches(world_size: int) -> None:
    alone = list(epoch_batches(103, batch_size=20, seed=1, epoch=2))
    assert [len(batch.rows) for batch in alone] == [20] * 5 + [3]
    shares = [
        list(epoch_batches(103, batch_size=20, seed=1, epoch=2, rank=rank, world_size=world_size))
        for rank in range(world_size)
    ]
    for step, whole in enumerate(alone):
        together = np.concatenate([share[step].rows for share in shares])
        assert sorted(together) == sorted(whole.rows)
        assert {share[step].global_size for share in shares} == {len(whole.rows)}


def test_every_epoch_sees_every_row_once_in_another_order() -> None:
    orders = [
        np.concatenate([batch.rows for batch in epoch_batches(50, batch_size=8, seed=1, epoch=e)])
        for e in (1, 2)
    ]
    assert [sorted(order) for order in orders] == [list(range(50))] * 2
    assert orders[0].tolist() != orders[1].tolist()


def test_the_reported_losses_are_those_of_the_model(arrays: Arrays) -> None:
    network, epochs = fitted(arrays, SPEC)
    assert [epoch.number for epoch in epochs] == [1, 2, 3, 4]
    assert epochs[-1].train_loss < epochs[0].train_loss / 2
    with torch.no_grad():
        logits = network.eval()(torch.from_numpy(arrays.validation))
    labels = torch.from_numpy(arrays.validation_labels)
    expected = torch.nn.functional.binary_cross_entropy_with_logits(logits, labels)
    assert epochs[-1].validation_loss == pytest.approx(float(expected), abs=1e-6)


def test_the_same_seed_gives_the_same_network(arrays: Arrays) -> None:
    first, again = (fitted(arrays, SPEC)[0] for _ in range(2))
    for a, b in zip(first.parameters(), again.parameters(), strict=True):
        assert torch.equal(a, b)


def test_a_loss_that_is_no_number_ends_the_training(arrays: Arrays) -> None:
    broken = arrays.train.copy()
    broken[3, 0] = np.nan
    changed = Arrays(
        train=broken,
        train_labels=arrays.train_labels,
        validation=arrays.validation,
        validation_labels=arrays.validation_labels,
    )
    with pytest.raises(TrainingError, match="the loss is nan at step"):
        fitted(changed, SPEC)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hidden": ()}, "give one width of at least 1 a layer"),
        ({"dropout": 1.0}, r"dropout is 1\.0"),
        ({"epochs": 0}, "epochs is 0 and batch_size 1024; both are at least 1"),
        ({"learning_rate": 0.0}, "the first is positive"),
        ({"validation_share": 1.0}, r"validation_share is 1\.0"),
        ({"threshold": 1.0}, r"threshold is 1\.0, not between 0 and 1"),
    ],
)
def test_an_impossible_spec_is_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TabularSpec(**changes)  # type: ignore[arg-type]


def test_a_plan_without_workers_is_refused() -> None:
    with pytest.raises(ValueError, match="data is 0; a plan has at least one worker"):
        ParallelPlan(data=0)
