from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from raymlops.errors import ConfigError, TrainingError
from raymlops.train.communication import CommunicationSpec, NcclSpec
from raymlops.train.keras.spec import KerasSpec
from raymlops.train.plan import ParallelPlan
from raymlops.train.plan.feasibility import Limits
from raymlops.train.spec import (
    CheckpointPolicy,
    OptimizerSpec,
    ScheduleSpec,
    StoppingPolicy,
    TensorSpec,
    TrainSpec,
)
from raymlops.train.spec.factory import Factory
from raymlops.train.spec.loading import LoadingSpec
from raymlops.train.spec.recipe import Loss, make_loss, make_optimizer, make_schedule
from raymlops.train.torch_backend import TorchBackend
from tests.train.specs import MLP

YAML = """
name: digits
model: {call: "tests.train.models:mlp", arguments: {width: 16}}
data: {call: "tests.train.models:digits"}
optimizer: {name: sgd, learning_rate: 0.1, arguments: {momentum: 0.9}}
schedule: {name: cosine, warmup_steps: 10}
batch_size: 32
precision: bf16
clip_norm: 1.0
tensor: {slices: {"*.fc1": column}, sequence: true}
checkpoints: {every_steps: 50}
stopping: {on_nan: skip, patience: 3}
"""


def test_a_spec_is_the_same_from_yaml_and_from_python(tmp_path: Path) -> None:
    path = tmp_path / "digits.yaml"
    path.write_text(YAML)
    assert TrainSpec.read(path) == TrainSpec(
        name="digits",
        model=Factory(call="tests.train.models:mlp", arguments={"width": 16}),
        data=Factory(call="tests.train.models:digits"),
        optimizer=OptimizerSpec(name="sgd", learning_rate=0.1, arguments={"momentum": 0.9}),
        schedule=ScheduleSpec(name="cosine", warmup_steps=10),
        batch_size=32,
        precision="bf16",
        clip_norm=1.0,
        tensor=TensorSpec(slices={"*.fc1": "column"}, sequence=True),
        checkpoints=CheckpointPolicy(every_steps=50),
        stopping=StoppingPolicy(on_nan="skip", patience=3),
    )


def test_unknown_keys_are_errors_with_their_line(tmp_path: Path) -> None:
    path = tmp_path / "digits.yaml"
    path.write_text(YAML + "precison: fp16\n")
    with pytest.raises(ConfigError, match=r"digits\.yaml:13.*precison"):
        TrainSpec.read(path)


def test_a_file_may_say_whose_spec_it_holds(tmp_path: Path) -> None:
    """Files that `raymlops train` takes were refused by the scripts of a layout."""
    path = tmp_path / "digits.yaml"
    path.write_text(YAML + "framework: torch\n")
    assert TrainSpec.read(path).name == "digits"
    with pytest.raises(
        ConfigError, match=r"framework is 'keras'; it is torch here; .*read_spec reads all"
    ):
        TrainSpec.read(path, overrides=["framework=keras"])
    keras = tmp_path / "keras.yaml"
    keras.write_text("framework: keras\nmodel: {call: m:f}\ndata: {call: m:f}\n")
    assert KerasSpec.read(keras).model.call == "m:f"
    with pytest.raises(ConfigError, match=r"digits\.yaml:13.* is 'torch'; it is keras here"):
        KerasSpec.read(path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batch_size": 0, "max_steps": 0}, "batch_size is 0, max_steps is 0; each is at least 1"),
        ({"batch_size": 20.5}, r"batch_size is 20\.5; it is a whole number"),
        ({"seed": -1}, "seed is -1; it is not negative"),
        ({"clip_norm": 0.0}, r"clip_norm is 0\.0; it is positive and finite, or null for none"),
        ({"clip_norm": math.nan}, "clip_norm is nan; it is positive and finite"),
        ({"loss": "mse", "tensor": TensorSpec(loss=True)}, r"tensor\.loss is set and loss is mse"),
    ],
)
def test_an_impossible_spec_is_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(MLP, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ("tests.train.models:mpl", r"there is no tests\.train\.models:mpl: module .* has no"),
        ("tests.train.modles:mlp", "No module named 'tests.train.modles'"),
        ("tests.train.models:LENGTH", "LENGTH is a int, not a function"),
    ],
)
def test_what_a_factory_cannot_find_is_said(call: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Factory(call=call).make()


@pytest.mark.parametrize(
    "changes",
    [
        {"model": Factory(call="tests.train.models:mpl")},
        {"data": Factory(call="tests.train.models:mpl")},
        {"loss": Factory(call="tests.train.models:mpl")},
        {"optimizer": OptimizerSpec(name="tests.train.models:mpl")},
        {"schedule": ScheduleSpec(name="tests.train.models:mpl")},
    ],
)
def test_a_function_that_is_not_there_is_told_before_anything_starts(
    changes: dict[str, object],
) -> None:
    """A worker told it, half a minute later."""
    backend = TorchBackend(replace(MLP, **changes))  # type: ignore[arg-type]
    with pytest.raises(
        TrainingError, match=r"there is no tests\.train\.models:mpl: module .* has no"
    ):
        backend.limits(ParallelPlan(), Limits(max_workers=1, batch_size=50))


def test_an_argument_that_a_function_does_not_take_is_told_before_anything_starts() -> None:
    """A worker told it, half a minute later and below a traceback."""
    misspelt = replace(MLP.model, arguments={**MLP.model.arguments, "widht": 8})
    with pytest.raises(TrainingError, match=r"mlp takes no argument 'widht'.* \(it takes .*\)"):
        TorchBackend(replace(MLP, model=misspelt)).limits(
            ParallelPlan(), Limits(max_workers=1, batch_size=50)
        )


def lazy() -> torch.nn.Module:
    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.LazyLinear(10))


def frozen() -> torch.nn.Module:
    return torch.nn.Linear(64, 10).requires_grad_(False)


def of_numbers(*, width: int) -> torch.nn.Module:
    """A model whose first weights come from numpy, as do those of many a pretrained one."""
    start = np.asarray(torch.rand(10, width))
    model = torch.nn.Sequential(torch.nn.Linear(width, 10, bias=False), torch.nn.Linear(10, 10))
    model[0].weight.data = torch.from_numpy(start)
    return model


def missized() -> torch.nn.Module:
    return torch.nn.Linear("64", 10)  # type: ignore[arg-type]  # as a file may say


def elsewhere() -> torch.nn.Module:
    raise OSError("/data of the workers is not here")


def sgd(parameters: Any, *, lr: float, friction: float) -> torch.optim.Optimizer:
    return torch.optim.SGD(parameters, lr=lr, momentum=1 - friction)


HERE = "tests.train.spec.test_spec"
COPIES, SLICES = ParallelPlan(data=2), ParallelPlan(tensor=2)


def limits_of(plan: ParallelPlan, **changes: Any) -> Limits:
    backend = TorchBackend(replace(MLP, **changes))
    return backend.limits(plan, Limits(max_workers=2, batch_size=50))


@pytest.mark.parametrize("plan", [ParallelPlan(), COPIES, SLICES])
@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"model": Factory(call=f"{HERE}:lazy")}, r"1\.weight, 1\.bias have no size before its"),
        ({"model": Factory(call=f"{HERE}:frozen")}, "there is nothing to train; leave requires_"),
        (
            {"model": Factory(call=f"{HERE}:of_numbers")},
            r"of_numbers needs an argument 'width' \(it takes width\), and arguments give none",
        ),
        (
            {"optimizer": OptimizerSpec(name=f"{HERE}:sgd")},
            r"sgd needs an argument 'friction' .*, and arguments give lr: add it",
        ),
        (
            {"optimizer": OptimizerSpec(name=f"{HERE}:sgd", arguments={"fiction": 0.1})},
            "sgd takes no argument 'fiction'; did you mean 'friction'",
        ),
        ({"compile": "inductr"}, "compile is inductr, of which .*; did you mean 'inductor'"),
    ],
)
def test_a_model_that_cannot_be_trained_is_told_before_anything_starts(
    plan: ParallelPlan, changes: dict[str, Any], told: str
) -> None:
    """Under one process and copies a worker told it, half a minute later."""
    with pytest.raises(TrainingError, match=told):
        limits_of(plan, **changes)


def test_a_model_that_looks_at_its_numbers_may_be_sliced() -> None:
    """It ended with numpy's TypeError: there are no numbers where its shape is looked at."""
    numbers = Factory(call=f"{HERE}:of_numbers", arguments={"width": 64})
    assert limits_of(SLICES, model=numbers).divisible
    assert limits_of(COPIES, model=numbers).max_workers == 2


def test_what_a_function_raises_is_told_with_its_place() -> None:
    with pytest.raises(TrainingError, match=r"missized makes no model: TypeError.*in missized, .*"):
        limits_of(SLICES, model=Factory(call=f"{HERE}:missized"))


def test_a_model_that_can_be_made_by_workers_alone_is_left_to_them() -> None:
    assert limits_of(COPIES, model=Factory(call=f"{HERE}:elsewhere")).max_workers == 2


def test_a_relative_file_that_is_not_there_is_told_with_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It lay beside the spec, and the worker's folder is Ray's."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        TrainingError, match=rf"pathlib:Path.read_text .*called in {tmp_path}, .*abs"
    ):
        Factory(call="pathlib:Path.read_text").make(Path("wine.csv"))
    with pytest.raises(FileNotFoundError, match="/nowhere/wine"):
        Factory(call="pathlib:Path.read_text").make(Path("/nowhere/wine.csv"))


def test_a_factory_is_written_module_colon_function() -> None:
    with pytest.raises(ValueError, match=r"call is 'models\.mlp'; write it package\.module:funct"):
        Factory(call="models.mlp")


def test_a_schedule_of_ones_own_is_all_of_it() -> None:
    """A warm-up beside it was passed over."""
    with pytest.raises(ValueError, match=r"warmup_steps is 3 .*, and schedule rates:fall gives"):
        ScheduleSpec(name="rates:fall", warmup_steps=3)


def test_rates_rise_and_fall_as_described() -> None:
    cosine = make_schedule(ScheduleSpec(name="cosine", warmup_steps=3), num_steps=11)
    assert [cosine(step) for step in range(3)] == [0.25, 0.5, 0.75]
    assert cosine(3) == 1.0
    assert cosine(7) == pytest.approx(0.5)
    assert cosine(11) == pytest.approx(0.0)
    linear = make_schedule(ScheduleSpec(name="linear", final_share=0.2), num_steps=8)
    assert [linear(step) for step in (0, 4, 8)] == pytest.approx([1.0, 0.6, 0.2])
    assert make_schedule(ScheduleSpec(), num_steps=8)(7) == 1.0


@pytest.mark.parametrize("name", ["sgd", "adam", "adamw", "adagrad", "rmsprop"])
def test_optimizers_take_their_own_arguments(name: str) -> None:
    weight = torch.nn.Parameter(torch.ones(2))
    spec = OptimizerSpec(name=name, learning_rate=0.5, arguments={"weight_decay": 0.25})
    (group,) = make_optimizer(spec, [weight]).param_groups
    assert (group["lr"], group["weight_decay"]) == (0.5, 0.25)


def test_an_optimizer_that_runs_the_model_itself_is_refused() -> None:
    """Its first step ended in a TypeError about a closure."""
    weight = torch.nn.Parameter(torch.ones(2))
    with pytest.raises(
        TrainingError, match=r"optimizer torch\.optim:LBFGS runs the model as often"
    ):
        make_optimizer(OptimizerSpec(name="torch.optim:LBFGS"), [weight])
    make_optimizer(OptimizerSpec(name="torch.optim:NAdam"), [weight])


def test_an_unknown_name_lists_the_known() -> None:
    """A worker found out, in a run that had begun."""
    with pytest.raises(ValueError, match=r"there is no loss 'hinge'; known: cross_entropy, .*mse"):
        replace(MLP, loss="hinge")
    with pytest.raises(ValueError, match="there is no optimizer 'lion'; known: sgd, adam, adamw"):
        OptimizerSpec(name="lion")
    with pytest.raises(ValueError, match="there is no schedule 'step'; known: constant, linear"):
        ScheduleSpec(name="step")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: replace(MLP, precision="float16"), "'float16'; it is fp32, bf16 or fp16"),
        (lambda: replace(MLP, device="gpu"), "device is 'gpu'; it is cpu, cuda or xla"),
        (lambda: StoppingPolicy(on_nan="Skip"), "on_nan is 'Skip'; it is stop or skip"),
        (lambda: LoadingSpec(order="shuffle"), "'shuffle'; it is rows, blocks or none"),
        (lambda: TensorSpec(slices={"fc": "rows"}), "slices of fc is 'rows'; it is column or row"),
        (lambda: CommunicationSpec(compressor="topk"), "compressor is 'topk'; it is float16, "),
        (
            lambda: NcclSpec(preset="tcp"),
            "preset is 'tcp'; it is ethernet, infiniband, roce or None",
        ),
    ],
)
def test_a_word_that_yaml_would_refuse_is_refused_in_python(
    make: Callable[[], object], message: str
) -> None:
    """Some failed in a worker, and 'Skip' was taken for stop without a word."""
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    ("arguments", "told"),
    [({"momentum": 0.9}, "unexpected keyword"), ({"betas": [0.9, 1.5]}, "Invalid beta parameter")],
)
def test_arguments_an_optimizer_does_not_take_are_told_before_anything_starts(
    arguments: dict[str, Any], told: str
) -> None:
    """A worker failed on them."""
    spec = replace(MLP, optimizer=OptimizerSpec(name="adam", arguments=arguments))
    limits = Limits(max_workers=2, batch_size=64)
    with pytest.raises(TrainingError, match=f"optimizer adam does not take arguments .*{told}"):
        TorchBackend(spec).limits(ParallelPlan(), limits)


@pytest.mark.parametrize("rate", ["lr", "learning_rate"])
def test_a_learning_rate_is_given_once(rate: str) -> None:
    """Keras trained with that of the arguments, without a word; torch failed in a worker."""
    told = rf"arguments hold {rate} 1, and learning_rate is 0\.1: set the second alone"
    with pytest.raises(ValueError, match=told):
        OptimizerSpec(learning_rate=0.1, arguments={rate: 1})


@pytest.mark.parametrize("rate", [0.0, math.nan, math.inf])
def test_a_learning_rate_is_a_positive_number(rate: float) -> None:
    with pytest.raises(ValueError, match=f"learning_rate is {rate}; it is positive and finite"):
        OptimizerSpec(learning_rate=rate)


def test_losses_are_sums_over_all_targets() -> None:
    logits = torch.tensor([[[0.0, 0.0], [0.0, 0.0]]])
    classes = torch.tensor([[0, 1]])
    assert float(make_loss("cross_entropy")(logits, classes)) == pytest.approx(2 * math.log(2))
    assert float(make_loss("mse")(torch.tensor([1.0, 3.0]), torch.tensor([0.0, 1.0]))) == 5.0


def own(kind: str) -> Callable[[torch.Tensor, torch.Tensor], Any]:
    return {
        "sum": lambda outputs, targets: (outputs - targets).sum(),
        "float": lambda outputs, targets: float((outputs - targets).sum()),
        "vector": lambda outputs, targets: outputs - targets,
    }[kind]


def own_loss(kind: str) -> Loss:
    return make_loss(Factory(call="tests.train.spec.test_spec:own", arguments={"kind": kind}))


@pytest.mark.parametrize(
    ("kind", "told"), [("float", "a float"), ("vector", r"a tensor of shape \[3\]")]
)
def test_a_loss_of_ones_own_is_one_number(kind: str, told: str) -> None:
    """What torch said of another did not name the loss."""
    assert own_loss("sum")(torch.ones(3), torch.zeros(3)) == 3.0
    with pytest.raises(TrainingError, match=f"loss tests.*:own returned {told}; it returns the su"):
        own_loss(kind)(torch.ones(3), torch.zeros(3))


def test_mse_of_values_of_two_shapes_is_refused() -> None:
    """Rows were compared with each other, and the training learned their mean."""
    with pytest.raises(
        ValueError, match=r"outputs have shape \[3, 1\], the targets \[3\], .*reshape"
    ):
        make_loss("mse")(torch.zeros(3, 1), torch.ones(3))


def test_cross_entropy_of_what_are_no_classes_is_refused() -> None:
    """torch told of Long and Float, or of a target out of bounds, and no way out."""
    loss = make_loss("cross_entropy")
    with pytest.raises(ValueError, match=r"targets are float32, and .*as by astype\('int64'\)"):
        loss(torch.zeros(3, 2), torch.ones(3))
    told = "targets of a batch are from 1 to 5, and the model tells 2 classes apart, counted from 0"
    with pytest.raises(ValueError, match=told):
        loss(torch.zeros(3, 2), torch.tensor([1, 5, 1], dtype=torch.int8))


def test_cross_entropy_of_logits_whose_classes_are_not_last_is_refused() -> None:
    """Logits [rows, classes, length] of as many classes as the length were read as others."""
    logits, classes = torch.zeros(2, 3, 4), torch.zeros(2, 4, dtype=torch.int64)
    with pytest.raises(ValueError, match=r"outputs have shape \[2, 3, 4\], the targets \[2, 4\]"):
        make_loss("cross_entropy")(logits, classes)
    column = torch.zeros(5, 1, dtype=torch.int64)
    assert make_loss("cross_entropy")(torch.zeros(5, 3), column) == pytest.approx(5 * math.log(3))


@pytest.mark.parametrize("dtype", [torch.int8, torch.int32, torch.int64, torch.bool])
def test_labels_may_be_whole_numbers_of_any_type(dtype: torch.dtype) -> None:
    """Those of a pandas category ended the first step, as did 0 and 1 that are no floats."""
    labels = torch.tensor([0, 1]).to(dtype)
    assert make_loss("cross_entropy")(torch.zeros(2, 3), labels) == pytest.approx(2 * math.log(3))
    assert make_loss("binary_cross_entropy")(torch.zeros(2), labels) == pytest.approx(
        2 * math.log(2)
    )


def test_a_loss_of_torch_that_returns_a_mean_is_refused() -> None:
    """It was divided by the number of targets once more, and plans did not agree."""
    call = "torch.nn:CrossEntropyLoss"
    with pytest.raises(TrainingError, match=r"has reduction mean, .* give it reduction sum"):
        make_loss(Factory(call=call))
    limits = Limits(max_workers=2, batch_size=64)
    with pytest.raises(TrainingError, match="has reduction mean"):
        TorchBackend(replace(MLP, loss=Factory(call=call))).limits(ParallelPlan(), limits)
    logits, classes = torch.zeros(2, 3), torch.tensor([0, 1])
    summed = make_loss(Factory(call=call, arguments={"reduction": "sum"}))
    assert summed(logits, classes) == pytest.approx(2 * math.log(3))


class Margins(torch.nn.Module):
    def __init__(self, trained: bool) -> None:
        super().__init__()
        self.margins = torch.nn.Parameter(torch.ones(3), requires_grad=trained)


def test_a_loss_that_would_have_to_be_trained_is_refused() -> None:
    """Its parameters stayed as they were, without a word."""
    call = f"{__name__}:Margins"
    make_loss(Factory(call=call, arguments={"trained": False}))
    with pytest.raises(TrainingError, match=r"Margins has parameters margins, .* into the model"):
        make_loss(Factory(call=call, arguments={"trained": True}))


def shares(given: Any = math.nan) -> Callable[[int], Any]:
    return lambda step: given if step == 3 else 0.5


def uphill() -> Callable[[int], Any]:
    return shares(-1.0)


def nothing() -> Callable[[int], Any]:
    return shares(None)


@pytest.mark.parametrize("name", ["shares", "uphill", "nothing"])
def test_a_schedule_of_ones_own_gives_shares_of_a_rate(name: str) -> None:
    """Rates below 0 were taken, no number made weights none, and a server died of no value."""
    schedule = make_schedule(ScheduleSpec(name=f"{__name__}:{name}"), num_steps=9)
    assert schedule(2) == 0.5
    with pytest.raises(TrainingError, match=f":{name} gives (nan|-1.0|None) at step 3, counted"):
        schedule(3)


@pytest.mark.parametrize("name", ["", "a/b", "../../a", "two words", "-a", "x" * 300])
@pytest.mark.parametrize("kind", [TrainSpec, KerasSpec])
def test_a_name_that_folders_and_commands_cannot_take_is_refused(
    kind: type[TrainSpec | KerasSpec], name: str
) -> None:
    """Of "../../a" a folder lay beside those of all trainings, of a long one none could be made,
    and the run of an empty one began with the dash of an option."""
    with pytest.raises(
        ValueError, match=r"model '.*' (cannot be part of a URL|has 300 characters)"
    ):
        kind(name=name, model=MLP.model, data=MLP.data)
