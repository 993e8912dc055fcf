"""Rows that would go alone through a layer that normalises over several."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from raymlops.errors import TrainingError
from raymlops.train import ParallelPlan
from raymlops.train.layouts.lonely import require_company
from raymlops.train.spec.factory import Factory
from raymlops.train.spec.sources import Sources
from tests.train.specs import MLP


def normed() -> torch.nn.Module:
    return torch.nn.Sequential(
        torch.nn.Linear(64, 8), torch.nn.BatchNorm1d(8), torch.nn.Linear(8, 10)
    )


def normed_images() -> torch.nn.Module:
    """Of a row of 8 x 8 pixels there is enough to normalise over."""
    return torch.nn.Sequential(
        torch.nn.Unflatten(1, (1, 8, 8)),
        torch.nn.BatchNorm2d(1),
        torch.nn.Flatten(),
        torch.nn.Linear(64, 10),
    )


NORMED = replace(
    MLP,
    model=Factory(call="tests.train.layouts.test_lonely:normed"),
    data=Factory(call="tests.train.models:digits", arguments={"rows": 35}),
    batch_size=8,
    accumulation=1,
)


def refusal(plan: str, **changes: object) -> str | None:
    spec = replace(NORMED, **changes)  # type: ignore[arg-type]
    try:
        require_company(spec, ParallelPlan.parse(plan), Sources.make(spec.data).train)
    except TrainingError as error:
        return str(error)
    return None


def test_a_row_that_would_go_alone_is_refused_before_the_first_step() -> None:
    """A page of torch said so of a tensor, at the end of the first epoch."""
    assert refusal("data=2", batch_size=17) == (
        "layer 1 (BatchNorm1d) normalises over rows, and 35 rows in batches of 17 leave one of 1 "
        "rows, of which a single one goes through it (accumulation 1): set batch_size to 16 or "
        "18, leave rows out, or take a norm within rows such as LayerNorm"
    )


def test_workers_that_wait_for_nobody_normalise_their_own_rows() -> None:
    told = refusal("data=2,server=1,sync=asynchronous") or ""
    assert "leave one of 3 rows" in told  # 2+1
    assert "2 workers apart, since workers of a server that is asynchronous wait for nobody" in told


@pytest.mark.parametrize(
    ("plan", "changes", "size"),
    [
        ("data=1", {"batch_size": 17}, 1),
        ("shard=2", {"accumulation": 2}, 3),  # in pieces of 2 and 1
        ("data=1", {"batch_size": 16, "accumulation": 4}, 3),  # in three
        ("data=2", {"batch_size": 7, "accumulation": 2, "cuda_graphs": True, "device": "cuda"}, 7),
    ],
)
def test_every_piece_counts(plan: str, changes: dict[str, object], size: int) -> None:
    assert f"leave one of {size} rows" in (refusal(plan, **changes) or "")


@pytest.mark.parametrize(
    ("plan", "changes"),
    [
        ("data=1", {}),  # 3 rows are left
        ("data=2", {}),  # 2+1, which are normalised together
        ("data=2,shard=2", {"batch_size": 33}),  # 1+1 and two workers without any
        ("data=2", {"batch_size": 17, "max_steps": 2}),  # which end before it
        (
            "data=2",
            {
                "batch_size": 17,
                "model": Factory(call="tests.train.layouts.test_lonely:normed_images"),
            },
        ),
        ("data=2", {"batch_size": 17, "model": Factory(call="tests.train.models:mlp")}),
        ("data=2", {"batch_size": 17, "model": Factory(call="tests.train.models:frozen_norm")}),
    ],
)
def test_what_can_be_trained_is_not_refused(plan: str, changes: dict[str, object]) -> None:
    assert refusal(plan, **changes) is None
