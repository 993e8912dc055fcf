from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
import torch
from torch import nn

from raymlops.errors import PlanError
from raymlops.train import ParallelPlan
from raymlops.train.plan.feasibility import Divisible, Limits, require
from raymlops.train.plan.proposal import ModelSize, memory_of, propose, sent_by, waits_of
from raymlops.train.spec.factory import Factory
from raymlops.train.torch_backend import TorchBackend
from tests.train.models import transformer
from tests.train.specs import MLP, TEXT

MIB = 2**20
SIZE = ModelSize(parameter_bytes=100 * MIB)
LIMITS = Limits(max_workers=4, batch_size=64)


def test_what_fits_is_copied_and_what_does_not_is_sharded() -> None:
    roomy = propose(SIZE, LIMITS, memory_bytes=400 * MIB)
    assert roomy.plan == ParallelPlan(data=4)
    assert (roomy.memory_bytes, roomy.sent_bytes) == (400 * MIB, 150 * MIB)
    assert propose(SIZE, LIMITS, memory_bytes=200 * MIB).plan == ParallelPlan(data=2, shard=2)
    tight = propose(SIZE, LIMITS, memory_bytes=100 * MIB)
    assert tight.plan == ParallelPlan(shard=4)
    assert (tight.memory_bytes, tight.sent_bytes) == (100 * MIB, 300 * MIB)
    assert "one process needs 400.0 MiB" in tight.why
    assert tight.why.endswith("a worker holds 100.0 MiB and sends 300.0 MiB a step")


def test_small_activations_make_slices_cheaper_than_gradients() -> None:
    sliced = ModelSize(
        parameter_bytes=100 * MIB, sliced_bytes=96 * MIB, num_pairs=4, activation_bytes=1024
    )
    limits = Limits(max_workers=4, batch_size=64, divisible=(Divisible(what="heads", count=12),))
    found = propose(sliced, limits, memory_bytes=400 * MIB)
    assert found.plan == ParallelPlan(tensor=4)
    assert found.sent_bytes == 4 * 4 * 1024 * 64 * 3 // 4
    assert found.memory_bytes == 4 * (4 + 24) * MIB


def test_of_a_small_model_few_waits_count_for_more_than_few_bytes() -> None:
    """Slices of an MLP on digits send half of what its copies do, at a sixth of their rows/s."""
    small = ModelSize(
        parameter_bytes=52_000, sliced_bytes=50_000, num_pairs=1, activation_bytes=256
    )
    limits = Limits(max_workers=2, batch_size=64)
    copies, slices = ParallelPlan(data=2), ParallelPlan(tensor=2)
    assert sent_by(slices, small, 64) < sent_by(copies, small, 64)
    assert (waits_of(copies, small), waits_of(slices, small)) == (1, 2)
    assert waits_of(ParallelPlan(data=2, shard=2), replace(small, num_blocks=4)) == 13
    assert propose(small, limits, memory_bytes=MIB).plan == copies


def test_a_model_is_measured_without_its_weights() -> None:
    from raymlops.train.layouts.limits import propose_plan, size_of

    # Two blocks of width 16: attention 4 x 16 x 16, feed-forward 2 x 16 x 64, sums of 16 x 16.
    size = size_of(TEXT)
    assert size.sliced_bytes == 4 * 2 * (4 * 16 * 16 + 2 * 16 * 64)
    assert size.parameter_bytes == 4 * sum(p.numel() for p in transformer().parameters())
    assert (size.num_pairs, size.activation_bytes, size.num_blocks) == (4, 4 * 16 * 16, 2)
    assert propose_plan(TEXT, max_workers=2, memory_bytes=MIB).plan == ParallelPlan(data=2)


def thinning() -> nn.Module:
    """Looks at numbers as it is made, which stand for nothing where there are only shapes."""
    widths = [int(width.item()) for width in torch.linspace(64, 16, 3)]
    layers = [nn.Linear(m, n) for m, n in itertools.pairwise(widths)]
    return nn.Sequential(*layers, nn.Linear(widths[-1], 10))


def test_a_model_that_looks_at_numbers_as_it_is_made_has_every_plan() -> None:
    """All but copies ended with what torch says of tensors without numbers."""
    from raymlops.train.layouts.limits import propose_plan

    spec = replace(MLP, model=Factory(call=f"{__name__}:thinning"))
    plan = ParallelPlan(pipeline=2, microbatches=2)
    require(plan, TorchBackend(spec).limits(plan, LIMITS))
    propose_plan(spec, max_workers=2, memory_bytes=MIB)


def test_no_plan_is_invented_where_nothing_fits() -> None:
    with pytest.raises(
        PlanError, match=r"the smallest, shard=4, needs 100\.0 MiB a worker .* has 9"
    ):
        propose(SIZE, LIMITS, memory_bytes=90 * MIB)


def test_copies_of_shards_send_what_a_shard_holds() -> None:
    plan = ParallelPlan(data=2, shard=2)
    assert sent_by(plan, SIZE, 64) == 200 * MIB + 50 * MIB
    assert memory_of(plan, SIZE) == 200 * MIB
