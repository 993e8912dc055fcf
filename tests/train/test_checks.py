from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from raymlops.train import CommunicationSpec, KerasSpec, ParallelPlan, Trainer
from raymlops.train.communication import NcclSpec, SocketSpec
from raymlops.train.spec import (
    CheckpointPolicy,
    OptimizerSpec,
    PipelineSpec,
    ScheduleSpec,
    StoppingPolicy,
    TensorSpec,
    TrainSpec,
)
from raymlops.train.spec.factory import Factory
from raymlops.train.spec.loading import LoadingSpec
from tests.train.specs import MLP

MADE = {"model": Factory(call="a:b"), "data": Factory(call="a:b")}


@pytest.mark.parametrize(
    ("made", "values", "told"),
    [
        (ParallelPlan, {"data": 2.5}, "data is 2.5; it is a whole number"),
        (ParallelPlan, {"data": "2"}, "data is '2'; it is a whole number"),
        (ParallelPlan, {"data": True}, "data is True; it is a whole number"),
        (ParallelPlan, {"server": 1.5}, "server is 1.5; it is a whole number"),
        (ParallelPlan, {"pipeline": float("nan")}, "pipeline is nan; it is a whole number"),
        (ParallelPlan, {"sync": "async"}, "it is synchronous, asynchronous or stale"),
        (TrainSpec, {**MADE, "model": "a:b"}, "model is 'a:b'; it is Factory(call=...)"),
        (TrainSpec, {**MADE, "loss": print}, "it is a text or Factory(call=...)"),
        (TrainSpec, {**MADE, "loss": "a:b"}, "or one of your own as {call: module:function}"),
        (TrainSpec, {**MADE, "optimizer": "adam"}, "'adam'; it is OptimizerSpec(name=...)"),
        (TrainSpec, {**MADE, "batch_size": None}, "batch_size is None; it is a whole number"),
        (TrainSpec, {**MADE, "max_steps": 1.5}, "max_steps is 1.5; it is a whole number or None"),
        (TrainSpec, {**MADE, "seed": 2**64}, "it is not negative, and less than 2**63"),
        (TrainSpec, {**MADE, "clip_norm": "1"}, "clip_norm is '1'; it is a number or None"),
        (TrainSpec, {**MADE, "tensor": None}, "tensor is None; it is TensorSpec(slices=...)"),
        (KerasSpec, {**MADE, "epochs": 1.5}, "epochs is 1.5; it is a whole number"),
        (OptimizerSpec, {"learning_rate": "0.1"}, "learning_rate is '0.1'; it is a number"),
        (OptimizerSpec, {"arguments": None}, "arguments is None; it is a mapping"),
        (ScheduleSpec, {"warmup_steps": 0.1}, "warmup_steps is 0.1; it is a whole number"),
        (CheckpointPolicy, {"asynchronous": "no"}, "asynchronous is 'no'; it is True or False"),
        (StoppingPolicy, {"patience": 1.5}, "patience is 1.5; it is a whole number or None"),
        (TensorSpec, {"slices": {"0": "diagonal"}}, "slices of 0 is 'diagonal'; it is column or"),
        (PipelineSpec, {"starts": "02"}, "starts is '02'; it is a tuple"),
        (PipelineSpec, {"starts": (0, 2)}, "an element of starts is 0; it is a text"),
        (LoadingSpec, {"num_threads": 1.5}, "num_threads is 1.5; it is a whole number"),
        (SocketSpec, {"send_buffer_bytes": 1e6}, "1000000.0; it is a whole number or None"),
        (NcclSpec, {"preset": "wifi"}, "it is ethernet, infiniband, roce or None"),
        (CommunicationSpec, {"environment": {"NCCL_DEBUG": 1}}, "environment of NCCL_DEBUG is 1"),
        (Factory, {"call": None}, "call is None; it is a text"),
        (Trainer, {"spec": MLP, "plan": "data=2"}, "'data=2'; it is ParallelPlan(data=...)"),
        (Trainer, {"spec": MLP, "home": "runs"}, "home is 'runs'; it is a Path"),
        (Trainer, {"spec": MLP, "max_restarts": 0.5}, "max_restarts is 0.5; it is a whole number"),
        (Trainer, {"spec": {}}, "it is TrainSpec(model=...) or KerasSpec(model=...)"),
    ],
)
def test_what_no_file_could_say_is_no_spec_either(
    made: Any, values: dict[str, Any], told: str
) -> None:
    """Two and a half workers were a plan, and failed in Ray; others ended in a TypeError."""
    with pytest.raises(ValueError) as caught:  # noqa: PT011  # each is told by its text
        made(**values)
    assert told in str(caught.value)


def test_numbers_of_numpy_and_lists_are_what_a_ledger_can_hold() -> None:
    plan = ParallelPlan(data=np.int64(2))  # type: ignore[arg-type]  # as a sweep has it
    assert type(plan.data) is int
    rate = OptimizerSpec(learning_rate=np.float32(0.5)).learning_rate  # type: ignore[arg-type]
    assert (type(rate), rate) == (float, 0.5)
    assert PipelineSpec(starts=["0", "2"]).starts == ("0", "2")  # type: ignore[arg-type]


def test_a_long_value_is_cut() -> None:
    with pytest.raises(ValueError, match=r"model is 'x+") as caught:
        TrainSpec(model="x" * 10_000, data=Factory(call="a:b"))  # type: ignore[arg-type]
    assert len(str(caught.value)) < 200
