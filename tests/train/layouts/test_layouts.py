"""The contract of all layouts: the numbers of one process, whoever computes them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import pytest
import torch

from raymlops.errors import PlanError, TrainingError
from raymlops.train import ParallelPlan
from raymlops.train.pipeline.costs import untouched
from raymlops.train.plan.feasibility import Limits, require
from raymlops.train.plan.seat import Seat
from raymlops.train.spec import (
    OptimizerSpec,
    PipelineSpec,
    Slice,
    StoppingPolicy,
    TensorSpec,
    TrainSpec,
)
from raymlops.train.spec.factory import Factory
from raymlops.train.torch_backend import TorchBackend
from tests.endurance import endurance
from tests.train import gloo
from tests.train.models import mlp
from tests.train.server.threads import start_threads
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
    SEQUENCE,
    SERVED_MLP,
    SPARE,
    TEXT,
)

ALONE = ParallelPlan()
AGAIN: dict[str, Any] = {"activation_checkpointing": True}
COMPILED: dict[str, Any] = {"compile": "aot_eager"}


def train(seat: Seat, spec: TrainSpec) -> tuple[list[Mapping[str, float]], dict[str, Any], int]:
    """What one rank logged, the weights of the whole model, and the numbers it held of it."""
    from raymlops.train.loop.loop import Loop

    logged: list[Mapping[str, float]] = []

    def log(values: Mapping[str, float], step: int) -> None:
        logged.append(values)

    loop = Loop(spec, seat, log=log, start_server=start_threads)
    loop.run()
    held = sum(
        (tensor.to_local() if hasattr(tensor, "to_local") else tensor).numel()
        for tensor in loop.state.tensors()["model"].values()
    )
    return logged, loop.weights(), held


_references: dict[str, Any] = {}


def reference(spec: TrainSpec) -> tuple[list[Mapping[str, float]], dict[str, Any], int]:
    """The same in one process, once a spec."""
    key = repr(spec)
    if key not in _references:
        _references[key] = gloo.run(ALONE, train, spec)[0]
    found: tuple[list[Mapping[str, float]], dict[str, Any], int] = _references[key]
    return found


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
            curve, abs=1e-5
        ), name
    assert together.keys() == weights.keys()
    for name, weight in weights.items():
        assert torch.allclose(together[name], weight, rtol=0, atol=1e-5), name
    # Shards and slices are really held by one worker each.
    assert max(held for _, _, held in ranks) <= share * size
    assert all(not values for values, _, _ in ranks[1:])  # rank 0 alone logs


@pytest.mark.parametrize(
    ("plan", "changes"),
    [
        ("shard=2", {**AGAIN, **COMPILED}),
        ("tensor=2", AGAIN),  # which takes one of them, see below
        endurance("data=2", {**AGAIN, **COMPILED}),
        endurance("pipeline=2,microbatches=2", {**AGAIN, **COMPILED}),
        endurance("pipeline=2,microbatches=4,schedule=interleaved_zero_bubble", COMPILED),
        endurance("pipeline=2,microbatches=4,schedule=zbv_zero_bubble", COMPILED),
        endurance("tensor=2", COMPILED),
    ],
)
def test_blocks_computed_again_and_compiled_give_the_same_numbers(
    plan: str, changes: dict[str, Any]
) -> None:
    spec = replace(TEXT, max_steps=3)
    expected, weights, _ = reference(spec)
    logged, together, _ = gloo.run(ParallelPlan.parse(plan), train, replace(spec, **changes))[0]
    assert [values["loss"] for values in logged] == pytest.approx(
        [values["loss"] for values in expected], abs=1e-5
    )
    for name, weight in weights.items():
        assert torch.allclose(together[name], weight, rtol=0, atol=1e-5), name


def test_sliced_layers_are_compiled_or_computed_again() -> None:
    plan, limits = ParallelPlan(tensor=2), Limits(max_workers=2, batch_size=8)
    for changes in (AGAIN, COMPILED):
        require(plan, TorchBackend(replace(TEXT, **changes)).limits(plan, limits))
    both = TorchBackend(replace(TEXT, **AGAIN, **COMPILED))
    with pytest.raises(PlanError, match="compile is aot_eager and activation_checkpointing true,"):
        require(plan, both.limits(plan, limits))


def test_stages_are_compiled_where_all_backward_passes_go_alike() -> None:
    """Torch ended such a training by an error of its own, in the middle of the first step."""
    limits = Limits(max_workers=2, batch_size=8)
    for changes, schedule in ((COMPILED, "zbv_zero_bubble"), ({}, "dualpipe_v")):
        plan = ParallelPlan(pipeline=2, microbatches=4, schedule=schedule)
        require(plan, TorchBackend(replace(TEXT, **changes)).limits(plan, limits))
    plan = ParallelPlan(pipeline=2, microbatches=4, schedule="dualpipe_v")
    compiled = TorchBackend(replace(TEXT, **COMPILED))
    with pytest.raises(PlanError, match=r"compile is aot_eager, .* as schedule dualpipe_v does"):
        require(plan, compiled.limits(plan, limits))


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


@pytest.mark.parametrize(
    ("slices", "reason"),
    [
        ({"0": "column", "2": "row"}, r"gives outputs up to 0\.\d+ apart on the same rows"),
        ({"0": "column"}, r"cannot run \(mat1 and mat2 shapes cannot be multiplied"),
        ({"2": "column"}, r"gives outputs of shape \(2, 5\) instead of \(2, 10\)"),
    ],
)
def test_a_model_that_slices_change_is_refused_before_the_first_step(
    slices: Mapping[str, Slice], reason: str
) -> None:
    # A softmax over all outputs of the first layer: no slice of them knows the others' sum.
    normed = replace(
        MLP,
        model=Factory(call="tests.train.models:softmax_mlp"),
        tensor=TensorSpec(slices=slices),
    )
    with pytest.raises(RuntimeError, match=f"TrainingError: sliced at .* the model {reason}"):
        gloo.run(ParallelPlan(tensor=2), train, normed)


class Noted(torch.nn.Dropout):
    """Keeps what it dropped last."""

    dropped: torch.Tensor

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = super().forward(x)
        self.dropped = (y == 0).detach()
        return y


def dropping_twice() -> torch.nn.Module:
    return torch.nn.Sequential(
        torch.nn.Linear(64, 32), Noted(), torch.nn.Linear(32, 32), Noted(), torch.nn.Linear(32, 10)
    )


def dropped(seat: Seat, spec: TrainSpec) -> list[torch.Tensor]:
    from raymlops.train.loop.loop import Loop

    loop = Loop(spec, seat)
    loop.run()
    found = (module for part in loop.parts for module in part.modules())
    return [module.dropped for module in found if isinstance(module, Noted)]


def test_stages_drop_different_values() -> None:
    """The first dropout of each stage once dropped the same ones."""
    spec = replace(
        MLP,
        model=Factory(call=f"{__name__}:dropping_twice"),
        pipeline=PipelineSpec(starts=("0", "2")),
        accumulation=1,
        max_steps=1,
    )
    plan = ParallelPlan.parse("pipeline=2,microbatches=1,schedule=gpipe")
    (first,), (second,) = gloo.run(plan, dropped, spec)
    assert first.shape == second.shape == (50, 32)
    assert not torch.equal(first, second)


def test_layers_that_see_one_workers_rows_are_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    from raymlops.train.layouts.model import warn_of_batch_norms

    norm = torch.nn.BatchNorm1d(3)
    warn_of_batch_norms(torch.nn.Sequential(torch.nn.Linear(3, 3), norm))
    (told,) = caplog.messages  # nothing said why the numbers differ
    assert told.startswith("1 normalise each worker's rows by themselves")
    assert "SyncBatchNorm" in told
    warn_of_batch_norms(torch.nn.Sequential(torch.nn.Linear(3, 3), norm.eval()))
    assert len(caplog.messages) == 1


class Counting(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("n", torch.zeros(()))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.n = self.n + 1
        return x * self.n


def test_checking_slices_leaves_buffers_alone() -> None:
    from raymlops.train.layouts.slicing import _outputs

    model, rows = Counting(), torch.ones(2, 3)
    (first,), (second,) = _outputs(model, (rows,)), _outputs(model, (rows,))
    assert torch.equal(first, second)
    assert float(model.n) == 0.0  # both passes counted, before the first step


class Growing(torch.nn.Module):
    """Has a table as long as the longest row it has seen, as some keep angles of places."""

    table: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.length = 0
        self.register_buffer("table", torch.zeros(0), persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if x.shape[1] > self.length:
            self.length = x.shape[1]
            self.register_buffer("table", torch.arange(x.shape[1]) / 2, persistent=False)
        return x * self.table[: x.shape[1]]


def test_tables_that_grow_in_a_pass_stay() -> None:
    """Trying such a model, as several workers do, ended in an error about shapes."""
    model = Growing()
    with untouched(model):
        model(torch.ones(2, 3))
    assert torch.equal(model(torch.ones(1, 3)), torch.tensor([[0.0, 0.5, 1.0]]))


class Bounded(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.table = torch.nn.Embedding(17, 4, max_norm=0.5)
        self.head = torch.nn.Linear(256, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        outputs: torch.Tensor = self.head(self.table((x * 16).long()).flatten(1))
        return outputs


def test_rows_that_change_as_they_are_looked_up_are_not_shared_out() -> None:
    """Copies of the table drifted apart, shards and servers kept rows longer than their norm."""
    spec = replace(MLP, model=Factory(call=f"{__name__}:Bounded"))
    limits = Limits(max_workers=8, batch_size=50)
    told = r"table has max_norm 0\.5, which changes rows as they are looked up"
    for text in ("shard=2", "data=2,server=1", "data=2,pipeline=2"):
        plan = ParallelPlan.parse(text)
        with pytest.raises(PlanError, match=told):
            require(plan, TorchBackend(spec).limits(plan, limits))
    plan = ParallelPlan(pipeline=2, microbatches=2)
    require(plan, TorchBackend(spec).limits(plan, limits))
    with pytest.raises(RuntimeError, match=told):
        gloo.run(ParallelPlan(data=2), train, spec)


class TwoHeads(torch.nn.Module):
    """Logits under one name, their mean under another."""

    def __init__(self) -> None:
        super().__init__()
        self.mlp = mlp()

    def forward(self, x: torch.Tensor) -> dict[str, Any]:
        logits = self.mlp(x)
        return {"logits": logits, "mean": [logits.mean(1)], "temperature": 1.0}


def of_two_heads() -> Any:
    def loss(outputs: dict[str, Any], targets: torch.Tensor) -> torch.Tensor:
        (mean,) = outputs["mean"]
        cross_entropy = torch.nn.functional.cross_entropy
        return cross_entropy(outputs["logits"], targets, reduction="sum") + mean.square().sum()

    return loss


def test_a_sliced_model_may_return_several_tensors() -> None:
    """It was held against the whole one as if it returned one."""
    here = "tests.train.layouts.test_layouts"
    model, loss = Factory(call=f"{here}:TwoHeads"), Factory(call=f"{here}:of_two_heads")
    spec = replace(MLP, model=model, loss=loss, max_steps=3)
    _, weights, _ = reference(spec)
    _, together, _ = gloo.run(ParallelPlan(tensor=2), train, spec)[0]
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


class AddsInPlace(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.mlp = torch.nn.Sequential(
            torch.nn.Linear(64, 32), torch.nn.ReLU(), torch.nn.Linear(32, 10)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        outputs: torch.Tensor = self.mlp(x)
        outputs += 1.0
        return outputs


def test_a_model_that_changes_what_slices_give_is_refused_before_the_first_step() -> None:
    """Without gradients, as the slices were tried, torch allows it."""
    spec = replace(MLP, model=Factory(call=f"{__name__}:AddsInPlace"))
    with pytest.raises(RuntimeError, match=r"TrainingError: sliced at .* cannot run .*inplace"):
        gloo.run(ParallelPlan(tensor=2), train, spec)


@pytest.mark.parametrize("how", ["foreach", endurance("fused")])
def test_sliced_and_whole_parameters_are_stepped_many_at_once(how: str) -> None:
    """Torch steps many of one kind at once; it was given both together, and failed."""
    spec = replace(MLP, optimizer=OptimizerSpec(arguments={how: True}), max_steps=3)
    _, weights, _ = reference(spec)
    _, together, _ = gloo.run(ParallelPlan(tensor=2), train, spec)[0]
    for name, weight in weights.items():
        assert torch.allclose(together[name], weight, rtol=0, atol=1e-5), name


def resilient(parameters: Iterable[torch.nn.Parameter], lr: float) -> torch.optim.Optimizer:
    return torch.optim.Rprop(parameters, lr=lr)


def test_an_optimizer_that_cannot_step_slices_is_named() -> None:
    """What torch said of it named neither the optimizer nor a way out."""
    spec = replace(MLP, optimizer=OptimizerSpec(name=f"{__name__}:resilient"))
    with pytest.raises(RuntimeError, match=r"layouts:resilient cannot step slices of parameters"):
        gloo.run(ParallelPlan(shard=2), train, spec)


@pytest.mark.parametrize(
    ("starts", "told"),
    [(("0", "9"), "no stage can begin at 9; the blocks are 0, 1,"), (("1", "0"), "begin at 1, 0;")],
)
def test_stages_that_begin_nowhere_are_refused_before_a_run(
    starts: tuple[str, ...], told: str
) -> None:
    """Workers ended with it."""
    spec = replace(MLP, pipeline=PipelineSpec(starts=starts))
    plan, limits = ParallelPlan(pipeline=2, microbatches=2), Limits(max_workers=2, batch_size=50)
    with pytest.raises(PlanError, match=f"the model cannot be cut: .*{told}"):
        require(plan, TorchBackend(spec).limits(plan, limits))


def test_slices_can_be_given_by_name() -> None:
    spec = replace(TEXT, max_steps=3)
    given: Mapping[str, Slice] = {"blocks.*.mlp.0": "column", "blocks.*.mlp.2": "row"}
    changed = replace(spec, tensor=TensorSpec(slices=given))
    _, weights, _ = reference(spec)
    _, together, _ = gloo.run(ParallelPlan(tensor=2), train, changed)[0]
    for name, weight in weights.items():
        assert torch.allclose(together[name], weight, rtol=0, atol=1e-5), name


def test_names_that_are_no_linear_layer_are_refused() -> None:
    from raymlops.train.layouts.slices import find_slices
    from tests.train.models import transformer

    with pytest.raises(TrainingError, match=r"names 'block\.mlp', which is none of the linear"):
        find_slices(transformer(), TensorSpec(slices={"block.mlp": "row"}))
