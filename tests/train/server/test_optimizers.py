"""Every optimizer of the server equals its model in torch.optim, bit by bit."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from raymlops.train.server import Adagrad, Adam, AdamW, Momentum, Optimizer, Sgd

IMAGES = torch.from_numpy(load_digits().data.astype(np.float32) / 16 - 0.5)
Factory = Callable[[list[torch.Tensor]], torch.optim.Optimizer]
PAIRS: dict[str, tuple[Optimizer, Factory]] = {
    "sgd": (Sgd(learning_rate=0.1), lambda given: torch.optim.SGD(given, lr=0.1)),
    "momentum": (
        Momentum(learning_rate=0.1, momentum=0.8),
        lambda given: torch.optim.SGD(given, lr=0.1, momentum=0.8),
    ),
    "adam": (
        Adam(learning_rate=0.01, beta1=0.8, beta2=0.99),
        lambda given: torch.optim.Adam(given, lr=0.01, betas=(0.8, 0.99)),
    ),
    "adamw": (
        AdamW(learning_rate=0.01, weight_decay=0.1),
        lambda given: torch.optim.AdamW(given, lr=0.01, weight_decay=0.1),
    ),
    "adagrad": (
        Adagrad(learning_rate=0.05),
        lambda given: torch.optim.Adagrad(given, lr=0.05),
    ),
}
every_pair = pytest.mark.parametrize(("ours", "theirs"), PAIRS.values(), ids=PAIRS)


@every_pair
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("size", [1, 17, 1000])
def test_steps_in_pieces_equal_torch(
    ours: Optimizer, theirs: Factory, dtype: torch.dtype, size: int
) -> None:
    gradients = IMAGES.reshape(-1)[: 20 * size].reshape(20, size).to(dtype)
    expected = torch.linspace(-1, 1, size, dtype=dtype, requires_grad=True)
    reference = theirs([expected])
    found = expected.detach().clone()
    states = [torch.zeros_like(found) for _ in range(ours.num_states)]
    for number, gradient in enumerate(gradients, start=1):
        expected.grad = gradient.clone()
        reference.step()
        for part in (slice(0, 13), slice(13, None)):
            pieces = [each[part] for each in (found, *states)]
            ours.step(pieces, pieces, gradient[part].clone(), number)
    assert torch.equal(found, expected.detach())


@pytest.mark.parametrize("ours", [ours for ours, _ in PAIRS.values()], ids=PAIRS)
def test_a_step_into_other_tensors_leaves_the_old_ones(ours: Optimizer) -> None:
    gradient = IMAGES[5]
    old = [IMAGES[4] + 1, *(IMAGES[6].abs() for _ in range(ours.num_states))]
    kept, new = [each.clone() for each in old], [torch.full_like(each, math.nan) for each in old]
    ours.step(old, new, gradient.clone(), 3)
    assert all(map(torch.equal, old, kept))
    ours.step(kept, kept, gradient.clone(), 3)
    assert all(map(torch.equal, new, kept))


@every_pair
def test_rows_without_gradient_rest(ours: Optimizer, theirs: Factory) -> None:
    """A row is as if it had been alone, at the steps at which it had a gradient."""
    found = IMAGES[:3].clone()
    states = [torch.zeros_like(found) for _ in range(ours.num_states)]
    rows = torch.tensor([0, 2])
    taken = [each[rows] for each in (found, *states)]
    ours.step_rows(taken, taken, IMAGES[10:12].clone(), 1)
    single = IMAGES[2:3].clone()
    alone = [single, *(torch.zeros_like(single) for _ in range(ours.num_states))]
    ours.step_rows(alone, alone, IMAGES[11:12].clone(), 1)
    assert torch.equal(taken[0][1:], single)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (Adam(learning_rate=0.01), lambda given: torch.optim.SparseAdam(given, lr=0.01)),
        (Sgd(learning_rate=0.1), lambda given: torch.optim.SGD(given, lr=0.1)),
        (Adagrad(learning_rate=0.05), lambda given: torch.optim.Adagrad(given, lr=0.05)),
    ],
    ids=["adam", "sgd", "adagrad"],
)
def test_rows_follow_the_sparse_optimizers_of_torch(ours: Optimizer, theirs: Factory) -> None:
    embedding = torch.nn.Embedding(10, 64, sparse=True)
    embedding.load_state_dict({"weight": IMAGES[:10].clone()})
    reference = theirs(list(embedding.parameters()))
    found = IMAGES[:10].clone()
    states = [torch.zeros_like(found) for _ in range(ours.num_states)]
    with torch.sparse.check_sparse_tensor_invariants():
        _follow(ours, reference, embedding, found, states)
    # The order of operations differs: the last bits may.
    torch.testing.assert_close(found, embedding.weight.detach(), rtol=0, atol=1e-6)


def _follow(
    ours: Optimizer,
    reference: torch.optim.Optimizer,
    embedding: torch.nn.Embedding,
    found: torch.Tensor,
    states: list[torch.Tensor],
) -> None:
    """Takes the same steps with both, `reference` on `embedding`, ours on `found` and `states`."""
    for number in range(1, 30):
        rows = torch.tensor([number % 10, (number * 3 + 1) % 10]).unique()
        gradient = IMAGES[number : number + len(rows)] * 1e-3
        reference.zero_grad()
        (embedding(rows) * gradient).sum().backward()
        reference.step()
        taken = [each[rows] for each in (found, *states)]
        ours.step_rows(taken, taken, gradient.clone(), number)
        for whole, part in zip((found, *states), taken, strict=True):
            whole[rows] = part


def test_a_learning_rate_may_be_a_schedule() -> None:
    parameters = torch.ones(2)
    halving = Sgd(learning_rate=lambda number: 0.5**number)
    for number in (1, 2):
        halving.step([parameters], [parameters], torch.ones(2), number)
    assert parameters.tolist() == [0.25, 0.25]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Sgd(learning_rate=0.0), "learning_rate is 0.0"),
        (lambda: Momentum(learning_rate=0.1, momentum=1.0), "momentum is 1.0"),
        (lambda: Adam(beta2=1.0), "beta2 1.0"),
        (lambda: Adam(epsilon=0.0), "epsilon is 0.0"),
        (lambda: AdamW(weight_decay=-0.1), "weight_decay is -0.1"),
        (lambda: Adagrad(learning_rate=0.1, epsilon=-1.0), "epsilon is -1.0"),
    ],
)
def test_settings_that_make_no_sense_are_refused(
    make: Callable[[], Optimizer], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        make()
