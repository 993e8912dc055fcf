"""Every schedule trains what one process trains."""

from __future__ import annotations

import pytest
import torch

from raymlops.train.pipeline import SCHEDULES, PipelineLayout
from tests.train.pipeline.models import Task, digits, text
from tests.train.pipeline.training import train_alone, train_each
from tests.train.ranks import run_ranks

# 61 rows in 6 microbatches of 11 and 27 in 6 of 5: the last are short.
TASKS = {"digits": (digits(61), 11), "text": (text(27), 5)}
LAYOUTS = [
    PipelineLayout.fewest_stages(name, num_ranks=3, num_microbatches=6) for name in SCHEDULES
]


def merged(parts: list[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    """The ranks' parts as one state; no two hold the same name."""
    whole = {name: value for part in parts for name, value in part.items()}
    assert len(whole) == sum(len(part) for part in parts)
    return whole


def assert_alike(state: dict[str, torch.Tensor], reference: dict[str, torch.Tensor]) -> None:
    assert state.keys() == reference.keys()
    for name, value in state.items():
        assert torch.allclose(value, reference[name], rtol=0, atol=1e-5), name


@pytest.mark.parametrize("name", TASKS)
def test_every_schedule_trains_what_one_process_trains(name: str) -> None:
    task, size = TASKS[name]
    reference, losses = train_alone(task)
    ranks = run_ranks(3, train_each, task, LAYOUTS, size)
    assert_moved(task, reference)
    for trained in zip(*ranks, strict=True):
        states, seen = zip(*trained, strict=True)
        assert_alike(merged(list(states)), reference)
        for rank_losses in seen:
            assert rank_losses == pytest.approx(losses, rel=1e-5)


def assert_moved(task: Task, trained: dict[str, torch.Tensor]) -> None:
    """A comparison within 1e-5 means something only where training moved far more."""
    untrained = task.make().state_dict()
    for name, value in trained.items():
        assert float((value - untrained[name]).abs().max()) > 1e-3, name
