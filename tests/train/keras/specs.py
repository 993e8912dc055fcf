"""Specs of the test models, with uneven last batches and clipping."""

from __future__ import annotations

from dataclasses import replace

from raymlops.train import CheckpointPolicy, Factory, OptimizerSpec
from raymlops.train.keras import KerasSpec

MLP = KerasSpec(
    model=Factory(call="tests.train.keras.models:mlp"),
    data=Factory(call="tests.train.keras.models:digits"),
    name="digits",
    batch_size=50,  # 6 full batches, then 33 rows; the validation's last has one
    epochs=3,
    max_steps=20,
    clip_norm=0.1,  # below the norm of every step
    checkpoints=CheckpointPolicy(every_steps=4, asynchronous=False),  # there when a worker dies
)
UNVALIDATED = Factory(call="tests.train.keras.models:digits", arguments={"validation": 0})
CNN = replace(
    MLP,
    model=Factory(call="tests.train.keras.models:cnn"),
    data=UNVALIDATED,
    optimizer=OptimizerSpec(name="sgd", learning_rate=0.1, arguments={"momentum": 0.9}),
    clip_norm=None,
)
NORMALISED = replace(
    MLP, model=Factory(call="tests.train.keras.models:normalised"), data=UNVALIDATED
)
NOISY = replace(MLP, model=Factory(call="tests.train.keras.models:noisy"), data=UNVALIDATED)
BY_BATCH = replace(
    MLP,
    model=Factory(call="tests.train.keras.models:by_batch"),
    data=UNVALIDATED,
    optimizer=OptimizerSpec(name="sgd", learning_rate=0.1),
)
TAGGER = replace(
    MLP,
    model=Factory(call="tests.train.keras.models:tagger"),
    data=Factory(call="tests.train.keras.models:tagged"),
    clip_norm=None,
)
CLIPPED_TAGGER = replace(TAGGER, clip_norm=0.1)
