"""What a loop cannot train, or would do otherwise, is told."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from raymlops.train import CheckpointPolicy, Factory, OptimizerSpec
from raymlops.train.keras import KerasSpec
from raymlops.train.keras.spec import LoopName
from tests.train.keras import training
from tests.train.keras.host import Host
from tests.train.keras.loops import (
    LIBRARIES,
    crew,
    spec_of,
)


def test_what_cannot_be_trained_is_told(loop: LoopName, tensorflow_host: Host) -> None:
    spec = spec_of(loop, "mlp")
    steep = OptimizerSpec(name="sgd", learning_rate=1e30)
    models = "tests.train.keras.models"
    wrong = [
        (replace(spec, optimizer=steep, clip_norm=None), "TrainingError: the loss is nan at step "),
        (
            replace(spec, model=Factory(call=f"{models}:digits")),
            f"TrainingError: {models}:digits made a builtins.tuple, not a model of "
            f"{LIBRARIES[loop]}: Keras 3 trains with loop 'custom', tf_keras",
        ),
        (
            replace(spec, model=Factory(call=f"{models}:compiled")),
            f"TrainingError: {models}:compiled made a compiled model: leave loss and optimizer",
        ),
        (
            replace(spec, loss=Factory(call=f"{models}:summed_loss")),
            f"TrainingError: loss {models}:summed_loss made a ",
        ),
        (
            replace(spec, model=Factory(call=f"{models}:subclassed")),
            f"TrainingError: {models}:subclassed made a Own that does not know its output's shape",
        ),
        (
            replace(spec, optimizer=OptimizerSpec(name=f"{models}:clipping")),
            f"TrainingError: optimizer {models}:clipping has clipnorm 0.1; set clip_norm of the",
        ),
        (
            replace(spec, optimizer=OptimizerSpec(name=f"{models}:doubling")),
            f"TrainingError: {models}:doubling made a builtins.float, not an optimizer of",
        ),
    ]
    (told,) = tensorflow_host.run(crew(loop), training.failure_of, *(broken for broken, _ in wrong))
    for text, (_, expected) in zip(told, wrong, strict=True):
        assert text.startswith(expected)


def test_what_a_loop_would_not_do_is_told(loop: LoopName, tensorflow_host: Host) -> None:
    """Steps of the model's own and averages of its weights were left out in silence by `custom`,
    and other settings ended in TensorFlow's frames; `fit` went on from the averages."""
    spec = spec_of(loop, "mlp")
    models = "tests.train.keras.models"

    def set_to(**arguments: object) -> KerasSpec:
        return replace(spec, optimizer=OptimizerSpec(name="adamw", arguments=arguments))

    wrong = {
        "custom": [
            (
                replace(spec, model=Factory(call=f"{models}:stepping")),
                f"TrainingError: {models}:stepping made a Own with a compute_loss of its own, ",
            ),
            (
                set_to(gradient_accumulation_steps=2),
                "TrainingError: optimizer adamw has gradient_accumulation_steps 2; TensorFlow's ",
            ),
            (
                set_to(use_ema=True, ema_overwrite_frequency=3),
                "TrainingError: optimizer adamw has ema_overwrite_frequency 3; TensorFlow's ",
            ),
        ],
        "fit": [(set_to(use_ema=True), "TrainingError: optimizer adamw has use_ema, by which ")],
    }[loop]
    (told,) = tensorflow_host.run(crew(loop), training.failure_of, *(each for each, _ in wrong))
    for text, (_, expected) in zip(told, wrong, strict=True):
        assert text.startswith(expected)


def test_steps_of_ones_own_tell_their_loss(tensorflow_host: Host) -> None:
    """A metric of another name ended in a KeyError."""
    model = Factory(call="tests.train.keras.models:tracking", arguments={"name": "mean"})
    spec = replace(spec_of("fit", "mlp"), model=model)
    named = replace(spec, model=Factory(call=model.call))
    (told,) = tensorflow_host.run(crew("fit"), training.failure_of, spec, named)
    assert told == [
        f"TrainingError: {model.call} made a Own whose metrics are ['mean'], of which none is "
        "called loss: name the one of its train_step's loss so, as Mean(name='loss')",
        "nothing",
    ]


def test_a_loss_that_mixes_rows_is_told(loop: LoopName, tensorflow_host: Host) -> None:
    """Of a vector of targets every pair with an output of [rows, 1] was counted: another loss on
    two workers than on one. One value of all rows ended in TensorFlow's frames."""
    models = "tests.train.keras.models"
    names = {"custom": "own_loss", "fit": "flat_loss"}  # tf_keras would match the first one's
    paired, of_all = (
        replace(
            spec_of(loop, "mlp"),
            model=Factory(call=f"{models}:single"),
            data=Factory(call=f"{models}:halves"),
            loss=Factory(call=f"{models}:{loss}"),
        )
        for loss in (names[loop], "mean_loss")
    )
    (told,) = tensorflow_host.run(crew(loop), training.failure_of, paired, of_all)
    assert told == [
        f"TrainingError: loss {models}:{names[loop]} holds each row's target against the outputs "
        "of all rows, since targets have shape [rows] and outputs [rows, 1]: let "
        f"{models}:halves give targets of shape [rows, 1], or the loss reshape them",
        f"TrainingError: loss {models}:mean_loss gives values of shape [] for 256 rows: let it "
        "give one for each row, such as a mean over the last axis",
    ]


def test_targets_that_a_loss_does_not_take_are_told(loop: LoopName, tensorflow_host: Host) -> None:
    """Of a class too high a GPU's loss was no number, for which the learning rate was blamed;
    class 3.5 was class 3; a binary loss fell without end by a label above 1; `fit` held a vector
    of targets against ten outputs each."""
    models = "tests.train.keras.models"
    spec = replace(spec_of(loop, "mlp"), max_steps=3)  # which leave no checkpoint
    single = Factory(call=f"{models}:single")
    binary = replace(spec, model=single, loss="binary_cross_entropy")

    def of(spec: KerasSpec, **arguments: object) -> KerasSpec:
        return replace(spec, data=Factory(call=f"{models}:labelled", arguments=arguments))

    given = f"{models}:labelled gives target"
    wrong = [
        (of(spec, label=10), f"{given} 10 in row 23 of those to train on, and the model tells 10 "),
        (of(spec, label=-1), f"{given} -1 in row 23 of those to train on, and the model tells 10 "),
        (of(spec, label=3.5, dtype="float32"), f"{given}s of type float32, and loss cross_entropy"),
        (of(binary, label=2), f"{given} 2 in row 23 of those to train on, and loss binary_cross_"),
        (of(binary, label=np.nan, dtype="float64"), f"{given} nan in row 23 of those to train on"),
        (
            of(replace(spec, loss="mse"), label=1),
            f"{given}s of shape [rows], and loss mse takes those of shape [rows, 10] for outputs",
        ),
    ]
    right = [
        of(spec, label=1, dtype="uint8", shape=[1]),
        of(spec, label=9, dtype="int32"),
        of(binary, label=1, dtype="bool"),
        of(binary, label=0.5, dtype="float64", shape=[1]),
    ]
    specs = [*(broken for broken, _ in wrong), *right]
    (told,) = tensorflow_host.run(crew(loop), training.failure_of, *specs)
    for text, (_, expected) in zip(told, wrong, strict=False):
        assert text.startswith(f"TrainingError: {expected}")
    assert told[len(wrong) :] == ["nothing"] * len(right)


def test_what_reading_rows_raises_is_told(loop: LoopName, tensorflow_host: Host) -> None:
    """Under `fit` it was an UnknownError of TensorFlow's, without the line that raised it."""
    spec = replace(spec_of(loop, "mlp"), data=Factory(call="tests.train.keras.models:torn"))
    (told,) = tensorflow_host.run(crew(loop), training.failure_of, replace(spec, batch_size=10))
    assert told == ["OSError: rows.bin: Input/output error"]


@pytest.mark.parametrize("clip_norm", [None, 0.1])
def test_a_gradient_that_is_no_number_stops_before_it_is_saved(
    loop: LoopName, clip_norm: float | None, tensorflow_host: Host
) -> None:
    """Its loss is one: only the next step's would tell, and after the last step there is none."""
    models = "tests.train.keras.models"
    blank = replace(
        spec_of(loop, "mlp"),
        model=Factory(call=f"{models}:lengths"),
        data=Factory(call=f"{models}:blank_digits"),
        batch_size=200,
        clip_norm=clip_norm,
        checkpoints=CheckpointPolicy(every_steps=1, asynchronous=False),
    )
    last = replace(blank, max_steps=1)
    expected = "TrainingError: gradients are not finite at step 1 of epoch 1; try a learning rate"
    two = crew(loop, num_workers=2)
    for told in tensorflow_host.run(two, training.failure_of, blank, last):
        assert all(text.startswith(expected) for text in told)


@pytest.mark.parametrize(
    ("rows", "validation", "told"),
    [
        ((333, 280), (101, 101), "to train on: 333 of rank 0; 280 of rank 1"),
        ((333, 333), (101, 60), "to validate on: 101 of rank 0; 60 of rank 1"),
    ],
    ids=["train", "validate"],
)
def test_workers_with_other_rows_end_as_they_begin(
    rows: tuple[int, int],
    validation: tuple[int, int],
    told: str,
    loop: LoopName,
    tensorflow_host: Host,
) -> None:
    """They came to unlike messages at the end of an epoch, of which TensorFlow told the shapes."""
    arguments = {"rows": rows, "validation": validation}
    data = Factory(call="tests.train.keras.models:replaced", arguments=arguments)
    spec = replace(spec_of(loop, "mlp"), data=data)
    found = tensorflow_host.run(crew(loop, num_workers=2), training.failure_of, spec)
    for (failure,) in found:
        assert failure.startswith(f"TrainingError: workers have other rows {told}: let every")
