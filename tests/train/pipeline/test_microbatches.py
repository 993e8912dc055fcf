from __future__ import annotations

import pytest
import torch

from raymlops.train.pipeline.loss import BatchLoss
from raymlops.train.pipeline.microbatches import Microbatches

THREE_OF_FOUR = Microbatches(count=3, size=4)


def test_the_last_row_fills_a_short_batch() -> None:
    padded = THREE_OF_FOUR.pad(torch.arange(10))
    assert padded.tolist() == [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 9, 9]
    rows = [THREE_OF_FOUR.rows(index, 10) for index in range(3)]
    assert rows == [slice(0, 4), slice(4, 8), slice(8, 10)]


def test_microbatches_may_be_empty() -> None:
    assert [THREE_OF_FOUR.rows(index, 3) for index in range(3)] == [
        slice(0, 3),
        slice(3, 3),
        slice(3, 3),
    ]
    assert THREE_OF_FOUR.pad(torch.ones(0, 2)).shape == (12, 2)


def test_a_batch_too_large_is_refused_with_the_size_that_would_do() -> None:
    message = "13 rows, more than 3 microbatches of 4 hold (12); nearest: microbatch_size=5"
    with pytest.raises(ValueError, match=message.replace("(", r"\(").replace(")", r"\)")):
        THREE_OF_FOUR.check(13)
    with pytest.raises(ValueError, match="microbatch_size is 0"):
        Microbatches(count=3, size=0)


def test_the_loss_forgets_the_rows_that_fill() -> None:
    loss = BatchLoss(lambda outputs, targets: ((outputs - targets) ** 2).sum(), THREE_OF_FOUR)
    loss.begin(torch.zeros(6), scale=0.5, device=torch.device("cpu"))
    outputs = torch.full((4,), 2.0, requires_grad=True)
    scaled = [loss(outputs, number) for number in loss.numbers]
    assert [value.item() for value in scaled] == [8.0, 4.0, 0.0]
    assert loss.total.item() == 24.0
    scaled[1].backward()
    assert outputs.grad is not None
    assert outputs.grad.tolist() == [2.0, 2.0, 0.0, 0.0]
