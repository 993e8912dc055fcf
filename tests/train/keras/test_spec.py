"""A Keras spec says at once what it cannot mean, and which plans it can run under."""

from __future__ import annotations

import math
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from pydantic import TypeAdapter

from raymlops.data.loading import ArraySource
from raymlops.errors import ConfigError, PlanError, TrainingError
from raymlops.train import OptimizerSpec, ParallelPlan, StoppingPolicy
from raymlops.train.keras import KerasSpec
from raymlops.train.keras.backend import KerasBackend
from raymlops.train.keras.fitting import require_fitting
from raymlops.train.keras.recipe import make_optimizer
from raymlops.train.keras.strategy import make_strategy
from raymlops.train.keras.targets import Targets
from raymlops.train.plan.feasibility import Limits, require
from raymlops.train.spec.sources import Sources
from tests.train.keras.specs import MLP


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"batch_size": 0, "epochs": 0}, "batch_size is 0, epochs is 0; each is at least 1"),
        ({"clip_norm": 0.0}, "clip_norm is 0.0; it is positive and finite, or null for none"),
        ({"clip_norm": math.nan}, "clip_norm is nan; it is positive and finite"),
        ({"seed": -1}, "seed is -1; Keras takes it from 0 to 4294967295"),
        ({"loss": "hinge"}, "there is no loss 'hinge'; known: cross_entropy, "),
        ({"device": "gpu"}, "device is 'gpu'; it is cpu, cuda or xla"),
        ({"device": "xla"}, "device is xla, which only a TrainSpec knows: set it to cpu or cuda"),
        ({"loop": "own"}, "loop is 'own'; it is custom or fit"),
        ({"stopping": StoppingPolicy(on_nan="skip")}, "stopping.on_nan is skip; Keras applies"),
        (
            {"optimizer": OptimizerSpec(arguments={"clipnorm": 1.0})},
            "optimizer.arguments hold clipnorm; set clip_norm of the spec",
        ),
    ],
)
def test_what_makes_no_sense_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(MLP, **change)


def test_a_spec_is_read_from_yaml(tmp_path: Path) -> None:
    path = tmp_path / "digits.yaml"
    path.write_text(
        "model: {call: 'digits:mlp'}\ndata: {call: 'digits:rows'}\nloop: fit\n"
        "optimizer: {name: sgd, learning_rate: 0.1}\n"
    )
    spec = KerasSpec.read(path)
    assert (spec.loop, spec.optimizer.name, spec.loss) == ("fit", "sgd", "cross_entropy")
    path.write_text(path.read_text() + "accumulation: 2\n")
    with pytest.raises(ConfigError, match="accumulation"):
        KerasSpec.read(path)


def test_a_spec_comes_back_from_the_ledgers_json() -> None:
    adapter = TypeAdapter(KerasSpec)
    assert adapter.validate_python(adapter.dump_python(MLP, mode="json")) == MLP


def rows(*shapes: tuple[int, ...], dtype: str = "float32", targets: str = "int64") -> ArraySource:
    inputs = [np.zeros((3, *shape), dtype) for shape in shapes]
    return ArraySource([*inputs, np.zeros(3, targets)])


def taking(*shapes: tuple[int | None, ...], dtype: str = "float32") -> SimpleNamespace:
    inputs = [SimpleNamespace(shape=(None, *shape), dtype=dtype) for shape in shapes]
    return SimpleNamespace(inputs=inputs)


def fit(model: SimpleNamespace, sources: Sources) -> None:
    require_fitting(MLP, model, Targets(MLP, (None, 10)), sources)


def refusal(
    model: SimpleNamespace, train: ArraySource, validation: ArraySource | None = None
) -> str:
    with pytest.raises(TrainingError) as caught:
        fit(model, Sources(train=train, validation=validation))
    return str(caught.value)


def test_rows_that_a_model_does_not_take_are_told_with_both_shapes() -> None:
    """TensorFlow ended the first step with a page of frames, and those to validate on the first
    epoch."""
    several = rows((64,), (5, 3))
    fit(taking((64,), (None, 3)), Sources(train=several, validation=several))
    fit(taking((1,)), Sources(train=rows(())))  # which Keras gives a dimension
    both = "takes rows of shape [64], and tests.train.keras.models:digits gives them of shape [60]:"
    assert both in refusal(taking((64,)), rows((60,)))
    assert both in refusal(taking((64,)), rows((64,)), rows((60,)))
    assert "shape [2] and [3], and " in refusal(taking((2,), (3,)), rows((2,)))
    assert "gives them of shape none, targets apart: let" in refusal(taking((64,)), rows())


def test_texts_and_objects_for_numbers_are_told_with_both_types() -> None:
    """Neither the column nor its type was told: "Cast string to float is not supported"."""
    fit(taking((1,), dtype="string"), Sources(train=rows((1,), dtype="<U9")))
    texts = refusal(taking((64,)), rows((64,), dtype="<U9"))
    assert texts.endswith(
        "takes rows of type float32, and tests.train.keras.models:digits gives them of type <U9: "
        "let the data give numbers"
    )
    assert "of type object: let" in refusal(taking((64,)), rows((64,), dtype="object"))
    assert refusal(taking((64,)), rows((64,), targets="<U2")) == (
        "tests.train.keras.models:digits gives targets of type <U2, and loss cross_entropy takes "
        "numbers, of classes those from 0"
    )


def strict_adam(*, learning_rate: float) -> None:
    """As Keras makes one, but for all else."""


def test_arguments_that_an_optimizer_does_not_take_are_told_with_its_name() -> None:
    keras = SimpleNamespace(optimizers=SimpleNamespace(Adam=strict_adam))
    with pytest.raises(TrainingError, match=r"optimizer adam does not take arguments \{'m': 1\}: "):
        make_optimizer(OptimizerSpec(name="adam", arguments={"m": 1}), keras)


def test_a_gpu_that_tensorflow_does_not_see_is_never_replaced_by_the_cpu(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config = SimpleNamespace(list_physical_devices=lambda kind: [])
    tensorflow = SimpleNamespace(config=config, __version__="2.21.0")
    monkeypatch.setitem(sys.modules, "tensorflow", tensorflow)
    with pytest.raises(TrainingError, match=r"device is cuda, and TensorFlow 2\.21\.0 sees no GPU"):
        make_strategy(device="cuda", num_threads=1)


def test_gpus_that_nobody_asked_for_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers that had asked Ray for none trained on all GPUs of their machine."""
    hidden: list[tuple[list[object], str]] = []
    config = SimpleNamespace(
        set_visible_devices=lambda seen, kind: hidden.append((seen, kind)),
        threading=SimpleNamespace(set_intra_op_parallelism_threads=lambda count: None),
    )
    distribute = SimpleNamespace(MirroredStrategy=lambda: list(hidden))
    tensorflow = SimpleNamespace(config=config, distribute=distribute)
    monkeypatch.setitem(sys.modules, "tensorflow", tensorflow)
    assert make_strategy(device="cpu", num_threads=1) == [([], "GPU")]


def test_plans_other_than_copies_are_refused_with_those_near() -> None:
    plan = ParallelPlan(data=2, tensor=2, pipeline=2)
    limits = KerasBackend(MLP).limits(plan, Limits(max_workers=4, batch_size=50))
    with pytest.raises(PlanError) as caught:
        require(plan, limits)
    why = "TensorFlow's strategies copy the whole model to each worker: use data"
    assert caught.value.problems[1:] == (f"pipeline is 2, but {why}", f"tensor is 2, but {why}")
    assert caught.value.nearest == ("data=2", "data=3", "data=4")
