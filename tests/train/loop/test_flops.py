from __future__ import annotations

import pytest
import torch

from raymlops.train.loop.flops import count_flops
from tests.train import models


def test_operations_are_counted_without_weights() -> None:
    # 2 operations a weight and row; forward, and backward by weights and by inputs, the first
    # layer's inputs excepted.
    first, second, third = 64 * 32, 32 * 32, 32 * 10
    expected = 2 * (2 * first + 3 * second + 3 * third)
    assert count_flops(models.mlp, (torch.zeros(2, 64),)) == expected


class TwoHeads(torch.nn.Module):
    """Rows to logits, and by name to what they are made of."""

    def __init__(self) -> None:
        super().__init__()
        self.body = torch.nn.Linear(64, 32)
        self.head = torch.nn.Linear(32, 10)

    def forward(self, rows: torch.Tensor) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        hidden = self.body(rows)
        return self.head(hidden), {"hidden": hidden, "rows": rows}


class OnTheHost(torch.nn.Linear):
    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        assert rows.device.type == "cpu"
        return super().forward(rows)


def test_operations_of_all_outputs_are_counted() -> None:
    """A model that returned a tuple ended its run, though its loss knew what to do with it."""
    expected = 2 * (2 * 64 * 32 + 3 * 32 * 10)
    assert count_flops(TwoHeads, (torch.zeros(2, 64),)) == expected


def test_a_model_whose_operations_cannot_be_counted_trains(
    caplog: pytest.LogCaptureFixture,
) -> None:
    assert count_flops(lambda: OnTheHost(64, 10), (torch.zeros(2, 64),)) is None
    assert "no MFU: the model's operations cannot be counted (Assertion" in caplog.text
