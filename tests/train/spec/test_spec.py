from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from raymlops.errors import ConfigError
from raymlops.train.communication import CommunicationSpec, NcclSpec
from raymlops.train.keras.spec import KerasSpec
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


def test_a_schedule_of_ones_own_is_all_of_it() -> None:
    """A warm-up beside it was passed over."""
    with pytest.raises(ValueError, match=r"warmup_steps is 3 .*, and schedule rates:fall gives"):
        ScheduleSpec(name="rates:fall", warmup_steps=3)


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
