"""The contract of all layouts: the numbers of one process, whoever computes them."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from raymlops.train import ParallelPlan
from raymlops.train.spec import PipelineSpec, StoppingPolicy, TensorSpec, TrainSpec
from raymlops.train.spec.factory import Factory
from tests.endurance import endurance
from tests.train import gloo
from tests.train.layouts.training import reference, train
from tests.train.specs import (
    BOTH,
    CNN,
    CUT,
    EXPERTS,
    LENGTHS,
    LOSS,
    MIXTURE,
    MIXTURE_IN_ROW,
    MLP,
    NORMED_CNN,
    NORMED_FEW,
    NORMED_MLP,
    NORMED_SERVED,
    SEQUENCE,
    SERVED_MLP,
    SPARE,
    TEXT,
)

# Each axis with each of the others and with each model, and what else differs from plan to plan.
CASES = [
    (MLP, "data=2", 1.0),
    (SPARE, "data=2", 1.0),
    (EXPERTS, "data=2", 1.0),
    (EXPERTS, "shard=2", 0.53),
    (MLP, "tensor=2", 0.6),
    (CNN, "data=2,shard=2", 0.55),
    (BOTH, "data=2,tensor=2", 0.65),
    (TEXT, "shard=2,tensor=2", 0.4),
    (CUT, "data=2,pipeline=2,microbatches=2", 0.88),
    (LENGTHS, "pipeline=2,microbatches=2", 0.97),
    (TEXT, "shard=2,pipeline=2,microbatches=2", 0.5),
    (TEXT, "tensor=2,pipeline=2,microbatches=3,schedule=interleaved_1f1b", 0.5),
    (SERVED_MLP, "data=2,server=2", 1.0),
    (SPARE, "data=2,server=2", 1.0),
    (NORMED_CNN, "data=2", 1.0),
    (NORMED_MLP, "shard=2", 0.57),
    (NORMED_MLP, "data=2,tensor=2", 1.0),
    (NORMED_SERVED, "data=2,server=2", 1.0),
    endurance(NORMED_CNN, "shard=2", 0.57),
    endurance(NORMED_FEW, "data=2,shard=2", 0.57),
    endurance(NORMED_MLP, "data=3", 1.0),
    endurance(NORMED_MLP, "tensor=2", 1.0),
    endurance(MLP, "shard=2", 0.5),
    endurance(EXPERTS, "data=2,shard=2", 0.53),
    endurance(MIXTURE, "shard=2", 0.53),
    endurance(MLP, "data=2,shard=2,tensor=2", 0.35),
    endurance(CNN, "data=3", 1.0),
    endurance(TEXT, "data=2", 1.0),
    endurance(TEXT, "shard=2", 0.5),
    endurance(TEXT, "tensor=2", 0.72),
    endurance(SEQUENCE, "tensor=2", 0.72),
    endurance(LOSS, "tensor=2", 0.65),
    endurance(MLP, "pipeline=2,microbatches=2", 0.99),
    endurance(LENGTHS, "data=2,pipeline=2,microbatches=2", 0.97),
    endurance(TEXT, "pipeline=2,microbatches=2", 0.9),
    endurance(MIXTURE_IN_ROW, "pipeline=2,microbatches=2", 0.7),
    endurance(MIXTURE_IN_ROW, "data=2,pipeline=2,microbatches=2", 0.7),
    endurance(MIXTURE_IN_ROW, "shard=2,pipeline=2,microbatches=2", 0.36),
    endurance(TEXT, "data=2,shard=2,pipeline=2,microbatches=2", 0.4),
    endurance(SEQUENCE, "tensor=2,pipeline=2,microbatches=2,data=2", 0.5),
    endurance(MLP, "data=2,pipeline=2,microbatches=4,schedule=zbv_zero_bubble", 0.99),
    endurance(SERVED_MLP, "data=4,server=3", 1.0),
    endurance(TEXT, "data=2,server=2", 1.0),
    endurance(TEXT, "data=4,server=1", 1.0),
]


def name_of(value: object) -> str:
    return value.model.call.partition(":")[2] if isinstance(value, TrainSpec) else str(value)


@pytest.mark.parametrize(("spec", "plan", "share"), CASES, ids=name_of)
def test_every_layout_gives_the_numbers_of_one_process(
    spec: TrainSpec, plan: str, share: float
) -> None:
    expected, weights, size = reference(replace(spec, tensor=TensorSpec()))
    ranks = gloo.run(ParallelPlan.parse(plan), train, spec)
    logged, together, _ = ranks[0]

    assert len([values for values in logged if "loss" in values]) == 20
    for name in ("loss", "gradient_norm", "train_loss", "validation_loss"):
        curve = [values[name] for values in expected if name in values]
        assert [values[name] for values in logged if name in values] == pytest.approx(
            curve, abs=1e-5, rel=5e-6
        ), name
    assert together.keys() == weights.keys()
    for name, weight in weights.items():
        assert torch.allclose(together[name], weight, rtol=0, atol=1e-5), name
    # Shards and slices are really held by one worker each.
    assert max(held for _, _, held in ranks) <= share * size
    assert all(not values for values, _, _ in ranks[1:])  # rank 0 alone logs


@pytest.mark.parametrize(
    "plan", ["shard=2", endurance("tensor=2"), endurance("pipeline=2,microbatches=2")]
)
def test_lower_precision_is_that_of_one_process(plan: str) -> None:
    spec = replace(TEXT, max_steps=3)
    lower = replace(spec, precision="bf16")
    (full, _, _), (expected, _, _) = reference(spec), reference(lower)
    logged, _, _ = gloo.run(ParallelPlan.parse(plan), train, lower)[0]
    losses = [[values["loss"] for values in each] for each in (logged, expected, full)]
    assert losses[0] == pytest.approx(losses[1], abs=1e-2)
    assert all(here != there for here, there in zip(losses[0], losses[2], strict=True))


@pytest.mark.parametrize("plan", ["tensor=2", "pipeline=2,microbatches=2", endurance("data=2")])
def test_what_is_in_evaluation_mode_stays_so_in_every_layout(plan: str) -> None:
    spec = replace(
        MLP,
        model=Factory(call="tests.train.models:frozen_norm"),
        tensor=TensorSpec(slices={"3": "column", "4": "row"}),
        max_steps=8,  # with a validation in between
    )
    _, weights, _ = reference(replace(spec, tensor=TensorSpec()))
    _, together, _ = gloo.run(ParallelPlan.parse(plan), train, spec)[0]
    assert together.keys() == weights.keys()
    assert int(together["1.num_batches_tracked"]) == 0
    for name, weight in weights.items():
        assert torch.allclose(together[name], weight, rtol=0, atol=1e-5), name


@pytest.mark.parametrize(
    "plan", ["shard=2", "pipeline=2,microbatches=2", endurance("data=2"), endurance("tensor=2")]
)
def test_workers_skip_together_what_is_no_number_in_one_gradient(plan: str) -> None:
    """Also those whose own gradients are fine: they hold the other stage, or other shards."""
    spec = replace(
        MLP,
        model=Factory(call="tests.train.models:lengths"),
        data=Factory(call="tests.train.models:blank_digits"),
        clip_norm=None,
        batch_size=20,
        accumulation=1,
        epochs=1,
        pipeline=PipelineSpec(starts=("0", "2")),
        stopping=StoppingPolicy(on_nan="skip"),
    )
    expected, weights, _ = reference(spec)
    logged, together, _ = gloo.run(ParallelPlan.parse(plan), train, spec)[0]
    skipped = [[values.get("skipped") for values in each] for each in (logged, expected)]
    assert skipped[0] == skipped[1]
    assert skipped[0].count(1.0) == 1
    for name, weight in weights.items():
        assert torch.allclose(together[name], weight, rtol=0, atol=1e-5), name


def in_place() -> torch.nn.Module:
    def relu() -> torch.nn.Module:
        return torch.nn.ReLU(inplace=True)

    return torch.nn.Sequential(
        torch.nn.Linear(64, 32), relu(), torch.nn.Linear(32, 32), relu(), torch.nn.Linear(32, 10)
    )


@pytest.mark.parametrize("plan", ["tensor=2", "pipeline=2,microbatches=2"])
def test_layers_may_work_in_place(plan: str) -> None:
    """Torch ended the first step where one stood behind a sliced layer, or began a stage."""
    spec = replace(
        MLP,
        model=Factory(call=f"{__name__}:in_place"),
        pipeline=PipelineSpec(starts=("0", "1")),
        max_steps=3,
    )
    _, weights, _ = reference(spec)
    _, together, _ = gloo.run(ParallelPlan.parse(plan), train, spec)[0]
    for name, weight in weights.items():
        assert torch.allclose(together[name], weight, rtol=0, atol=1e-5), name
