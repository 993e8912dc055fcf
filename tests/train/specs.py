"""Specs of the test models, with uneven last batches, clipping and accumulation."""

from __future__ import annotations

from dataclasses import replace

from raymlops.train.spec import OptimizerSpec, PipelineSpec, ScheduleSpec, TensorSpec, TrainSpec
from raymlops.train.spec.factory import Factory

MLP = TrainSpec(
    model=Factory(call="tests.train.models:mlp"),
    data=Factory(call="tests.train.models:digits", arguments={"rows": 333, "validation": 101}),
    batch_size=50,  # 6 full batches, then 33 rows
    accumulation=3,
    epochs=3,
    max_steps=20,
    clip_norm=0.1,  # below the norm of every step
)
SPARE = replace(
    MLP,
    model=Factory(call="tests.train.models:Spare"),
    optimizer=OptimizerSpec(arguments={"weight_decay": 0.5}),  # of nothing without a gradient
)
EXPERTS = replace(  # with batches so small that workers use other modules, or none of one
    MLP, model=Factory(call="tests.train.models:Experts"), batch_size=8, accumulation=2
)
MIXTURE = replace(  # of blocks that all rows pass through, each by an expert of its own
    EXPERTS, model=Factory(call="tests.train.models:mixture"), activation_checkpointing=True
)
MIXTURE_IN_ROW = replace(
    MIXTURE,
    model=Factory(call="tests.train.models:MixtureInRow"),
    activation_checkpointing=False,
    optimizer=OptimizerSpec(arguments={"weight_decay": 0.5}),
    pipeline=PipelineSpec(starts=("layers.0", "layers.2")),
)
CNN = replace(MLP, model=Factory(call="tests.train.models:cnn"))
CUT = replace(CNN, pipeline=PipelineSpec(starts=("0", "7")))  # behind the last convolution
LENGTHS = replace(  # with pieces of the last batch, a row, that have none; one of zeros is no row
    MLP,
    model=Factory(call="tests.train.models:lengths"),
    data=Factory(call="tests.train.models:digits", arguments={"rows": 33, "validation": 9}),
    batch_size=8,
    accumulation=2,
    epochs=4,
    pipeline=PipelineSpec(starts=("0", "2")),
)
TEXT = TrainSpec(
    model=Factory(call="tests.train.models:transformer"),
    data=Factory(call="tests.train.models:text", arguments={"rows": 57}),
    batch_size=8,  # 7 full batches, then one row: all workers but one have none
    epochs=3,
    max_steps=20,
    clip_norm=1.0,
)
SEQUENCE = replace(TEXT, tensor=TensorSpec(sequence=True))
LOSS = replace(TEXT, tensor=TensorSpec(loss=True))
BOTH = replace(TEXT, tensor=TensorSpec(sequence=True, loss=True))
NORMED_CNN = replace(
    CNN,
    model=Factory(call="tests.train.models:normed_cnn"),
    data=Factory(call="tests.train.models:digits", arguments={"rows": 333, "validation": 110}),
)
NORMED_MLP = replace(
    NORMED_CNN,
    model=Factory(call="tests.train.models:normed_mlp"),
    tensor=TensorSpec(slices={"1": "column", "3": "row"}),
)
# With an optimizer that a server has.
SERVED_MLP = replace(
    MLP,
    optimizer=OptimizerSpec(name="sgd", learning_rate=0.2, arguments={"momentum": 0.9}),
    schedule=ScheduleSpec(name="cosine", warmup_steps=3),
)
NORMED_SERVED = replace(SERVED_MLP, model=NORMED_CNN.model, data=NORMED_CNN.data)
NORMED_FEW = replace(  # 5 full batches, then 6 rows in pieces of 3: one of 4 workers has none
    NORMED_SERVED,
    data=Factory(call="tests.train.models:digits", arguments={"rows": 71, "validation": 30}),
    batch_size=13,
    accumulation=2,
    epochs=4,
)
FLIGHTS = TrainSpec(
    model=Factory(call="tests.train.models:flights_network"),
    data=Factory(call="tests.train.models:flights", arguments={"rows": 330}),
    loss="binary_cross_entropy",
    optimizer=OptimizerSpec(name="adagrad", learning_rate=0.1),
    batch_size=50,  # 6 full batches, then 30 rows
    epochs=3,
    max_steps=20,
)
