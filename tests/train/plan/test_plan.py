from __future__ import annotations

import itertools
import pickle
from dataclasses import replace

import pytest

from raymlops.errors import PlanError
from raymlops.train import ParallelPlan
from raymlops.train.plan import AXES, checked
from raymlops.train.plan.feasibility import Divisible, Limits, nearest, problems, require

HYBRID = ParallelPlan(data=2, shard=2, tensor=2)


def test_tensor_neighbours_are_ranks_side_by_side() -> None:
    assert HYBRID.groups("tensor") == ((0, 1), (2, 3), (4, 5), (6, 7))
    assert HYBRID.groups("shard") == ((0, 2), (1, 3), (4, 6), (5, 7))
    assert HYBRID.groups("data") == ((0, 4), (1, 5), (2, 6), (3, 7))
    assert HYBRID.groups("data", "shard") == ((0, 2, 4, 6), (1, 3, 5, 7))
    assert [HYBRID.replica(rank) for rank in range(8)] == [0, 0, 1, 1, 2, 2, 3, 3]
    assert HYBRID.coordinates(6) == {"pipeline": 0, "data": 1, "shard": 1, "tensor": 0}


@pytest.mark.parametrize(
    "sizes", [(1, 1, 1, 1), (2, 2, 2, 2), (1, 3, 1, 2), (3, 1, 2, 1), (1, 2, 2, 3)]
)
def test_groups_of_every_axis_are_disjoint_and_cover_all_workers(
    sizes: tuple[int, int, int, int],
) -> None:
    plan = ParallelPlan(**dict(zip(AXES, sizes, strict=True)))
    for axis in AXES:
        groups = plan.groups(axis)
        assert {len(group) for group in groups} == {plan.sizes[axis]}
        assert sorted(itertools.chain(*groups)) == list(range(plan.num_workers))
    # Two workers meet in the groups of the axes on which they differ, and in no other.
    for a, b in itertools.combinations(range(plan.num_workers), 2):
        at_a, at_b = plan.coordinates(a), plan.coordinates(b)
        differ = [axis for axis in AXES if at_a[axis] != at_b[axis]]
        meet = [axis for axis in AXES if any({a, b} <= set(group) for group in plan.groups(axis))]
        assert meet == (differ if len(differ) == 1 else [])


def test_swapped_groups_are_noticed() -> None:
    with pytest.raises(ValueError, match=r"twice \[1\], absent \[3\], unknown \[\]"):
        checked(((0, 1), (1, 2)), 4)


@pytest.mark.parametrize(
    ("text", "plan"),
    [
        ("data=2,tensor=2", ParallelPlan(data=2, tensor=2)),
        ("data=1", ParallelPlan()),
        (
            "pipeline=2,schedule=gpipe,microbatches=8",
            ParallelPlan(pipeline=2, schedule="gpipe", microbatches=8),
        ),
        ("data=4,server=2,sync=synchronous", ParallelPlan(data=4, server=2)),
        (
            "data=4,server=2,sync=stale,staleness=2",
            ParallelPlan(data=4, server=2, sync="stale", staleness=2),
        ),
        ("server=1,sync=asynchronous", ParallelPlan(server=1, sync="asynchronous")),
    ],
)
def test_a_plan_is_written_as_it_is_read(text: str, plan: ParallelPlan) -> None:
    assert ParallelPlan.parse(text) == plan
    assert str(plan) == text
    assert ParallelPlan.parse(f" {text.replace(',', ' , ')} ") == plan


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("fsdp=2", "'fsdp=2' in plan 'fsdp=2' is none of data, shard, tensor, pipeline"),
        ("dta=2", r"'dta=2' in plan 'dta=2' is none of .*; did you mean 'data'\?"),
        ("data=2,data=2", "plan 'data=2,data=2' says data twice"),
        ("data=two", "data is a whole number"),
        ("data=0", "data is 0; a plan has at least one worker on each axis"),
        ("data=2,microbatches=4", "microbatches is 4 without a pipeline"),
        ("data=2,sync=stale", "sync is stale without a server: set server to 1"),
        ("server=2,sync=often", "sync is 'often'; it is synchronous, asynchronous or stale"),
        ("server=2,staleness=3", "staleness is 3 and sync synchronous: set sync to stale"),
    ],
)
def test_a_plan_that_makes_no_sense_is_refused(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ParallelPlan.parse(text)


@pytest.mark.parametrize(
    ("scarce", "way_out"),
    [("CPUs", "add machines, or set cluster.num_cpus"), ("GPUs", "add machines with GPUs")],
)
def test_too_many_workers_are_told_what_there_is_too_little_of(scarce: str, way_out: str) -> None:
    limits = Limits(max_workers=2, batch_size=64, scarce=scarce)
    (told,) = problems(ParallelPlan(data=4), limits)
    assert told == f"it has 4 workers (data 4), there is room for 2: {way_out}"


LIMITS = Limits(
    max_workers=8,
    batch_size=64,
    num_layers=4,
    divisible=(Divisible(what="attention heads of blocks.0", count=6),),
)


@pytest.mark.parametrize(
    ("plan", "reason"),
    [
        (ParallelPlan(data=16), "it has 16 workers (data 16), there is room for 8"),
        (ParallelPlan(tensor=4), "tensor is 4, which does not divide the 6 attention heads"),
        (
            ParallelPlan(pipeline=5, microbatches=5),
            "5 stages on a pipeline of 5 with schedule 1f1b, the model has 4 blocks to share out",
        ),
        (
            ParallelPlan(pipeline=4, microbatches=3),
            "schedule '1f1b' needs at least as many microbatches as stages; 3 microbatches do not "
            "fit 4 ranks with 4 stages; nearest: microbatches=4",
        ),
        (
            ParallelPlan(data=2, pipeline=2, microbatches=40),
            "a batch of 64 rows cannot be cut into 80 pieces (data x shard 2, accumulation 1, "
            "microbatches 40)",
        ),
    ],
)
def test_what_cannot_run_is_refused_with_both_numbers(plan: ParallelPlan, reason: str) -> None:
    with pytest.raises(PlanError) as caught:
        require(plan, LIMITS)
    assert any(reason in problem for problem in caught.value.problems)
    assert reason in str(caught.value)
    crossed = pickle.loads(pickle.dumps(caught.value))
    assert (crossed.plan, crossed.nearest) == (str(plan), caught.value.nearest)


def test_the_nearest_plans_keep_the_axes_and_fit() -> None:
    near = nearest(ParallelPlan(data=4, tensor=4), LIMITS)
    assert near[0] in (ParallelPlan(data=4, tensor=2), ParallelPlan(data=2, tensor=3))
    assert all(not problems(plan, LIMITS) for plan in near)
    assert nearest(ParallelPlan(tensor=4), LIMITS)[0] == ParallelPlan(tensor=3)
    assert problems(ParallelPlan(data=4, tensor=2), LIMITS) == ()


def test_the_nearest_plans_keep_workers_before_they_give_up() -> None:
    """A pipeline of a model that cannot be cut was answered with a single process, which is nearer
    by its axes than workers on another one."""
    whole = replace(LIMITS, num_layers=0, uncuttable="it has one layer")
    told = [str(plan) for plan in nearest(ParallelPlan(pipeline=2), whole)]
    assert told == ["tensor=2", "shard=2", "data=2"]
    alone = replace(whole, max_workers=1)
    assert nearest(ParallelPlan(pipeline=2), alone) == (ParallelPlan(),)


def test_the_nearest_plans_fill_a_large_cluster() -> None:
    """Axes of more than 64 workers were not looked at."""
    large = Limits(max_workers=128, batch_size=4096)
    told = ["data=128", "data=127", "data=126"]
    assert [str(plan) for plan in nearest(ParallelPlan(data=256), large)] == told


def test_a_model_without_slices_or_chain_takes_neither_axis() -> None:
    plain = Limits(max_workers=8, batch_size=8)
    assert problems(ParallelPlan(tensor=2), plain) == (
        "tensor is 2, but nothing to slice was found in the model: name its layers in the spec, "
        "such as tensor.slices={blocks.*.up: column, blocks.*.down: row}",
    )
    assert problems(ParallelPlan(pipeline=2), plain) == (
        "pipeline is 2, but the model cannot be cut: it was not looked at",
    )
