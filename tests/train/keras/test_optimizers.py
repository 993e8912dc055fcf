"""Optimizers, their clipping and the scale of the loss are those of Keras."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from raymlops.train import Factory, OptimizerSpec
from raymlops.train.keras.spec import LoopName
from tests.train.keras import training
from tests.train.keras.host import Host
from tests.train.keras.loops import (
    assert_close,
    assert_equal,
    assert_learned_alike,
    crew,
    spec_of,
    train,
)
from tests.train.keras.specs import (
    MLP,
    UNVALIDATED,
)


def test_averages_and_a_scale_of_an_optimizer_are_those_of_keras(tensorflow_host: Host) -> None:
    """Averages were never taken for the weights, and gradients divided by a scale that the loss
    had not been multiplied with."""
    arguments = {"use_ema": True, "ema_momentum": 0.9, "loss_scale_factor": 1024.0, "epsilon": 1e-3}
    optimizer = OptimizerSpec(name="adamw", arguments=arguments)
    loose = replace(MLP, epochs=1, max_steps=None, clip_norm=None, optimizer=optimizer)
    specs = (loose, replace(loose, clip_norm=0.1))
    ((free, clipped),) = tensorflow_host.run(crew("custom", num_devices=2), training.train, *specs)
    for outcome, spec in ((free, loose), (clipped, specs[1])):
        (plain,) = tensorflow_host.run(crew("custom"), training.train_plainly, spec, "keras")
        assert_close(outcome.weights.values(), plain)


def test_gradients_in_float16_neither_vanish_nor_end_a_training(
    loop: LoopName, tensorflow_host: Host
) -> None:
    """Those of `custom` vanished, and `fit` could not validate."""
    spec = replace(spec_of(loop, "mlp"), epochs=1)
    half = "tests.train.keras.models:half"
    loud_arguments = {"factor": 3e3, "outputs": "float32"}
    faint = replace(
        spec, model=Factory(call=half, arguments={"factor": 1e-6}), clip_norm=None, batch_size=333
    )
    loud = replace(spec, model=Factory(call=half, arguments=loud_arguments), max_steps=1)
    two = crew(loop, num_workers=2)
    for quiet, overflown in tensorflow_host.run(two, training.train, faint, loud):
        _, bias = quiet.weights.values()
        assert np.all(bias != 0)
        _, untouched = overflown.weights.values()
        np.testing.assert_array_equal(untouched, np.zeros(10))
        assert overflown.last_step["skipped"] == 1


def test_the_scale_of_a_loss_goes_on_from_a_checkpoint(
    tensorflow_host: Host, tmp_path: Path
) -> None:
    """That of tf_keras is none of its optimizer's variables, and began anew."""
    arguments = {"factor": 3e3, "outputs": "float32"}
    model = Factory(call="tests.train.keras.models:half", arguments=arguments)
    spec = replace(spec_of("fit", "mlp"), model=model, data=UNVALIDATED)
    ((whole,),) = tensorflow_host.run(crew("fit"), training.train, spec)
    (resumed,) = tensorflow_host.run(crew("fit"), training.train_twice, spec, tmp_path)
    assert_equal(resumed.weights.values(), whole.weights.values())


def test_an_optimizer_of_ones_own_brings_its_rates(loop: LoopName, tensorflow_host: Host) -> None:
    """`fit` handed each a global_clipnorm, which it need not take."""
    optimizer = OptimizerSpec(name="tests.train.keras.models:decaying", learning_rate=0.02)
    spec = replace(spec_of(loop, "mlp"), optimizer=optimizer, max_steps=5)
    ((outcome,),) = tensorflow_host.run(crew(loop), training.train, spec)
    assert outcome.last_step["learning_rate"] == pytest.approx(0.016)


def test_the_rows_of_an_embedding_are_clipped_as_its_gradient(tensorflow_host: Host) -> None:
    """They could not be divided; Keras counts one that comes twice as two in their norm."""
    names = ["clipped tagger"]
    one, two = (train(tensorflow_host, "custom", workers, names) for workers in (1, 2))
    assert_learned_alike(one, two)


def test_weights_without_a_gradient_are_left_by_clipping(
    loop: LoopName, tensorflow_host: Host
) -> None:
    """The norm could not be taken of what is not there."""
    model = Factory(call="tests.train.keras.models:spare")
    spec = replace(spec_of(loop, "mlp"), model=model, data=UNVALIDATED, max_steps=3)
    two = crew(loop, num_devices=2)
    ((clipped, loose),) = tensorflow_host.run(
        two, training.train, spec, replace(spec, clip_norm=1e9)
    )
    assert clipped.losses != loose.losses
    for outcome in (clipped, loose):
        *_, untouched = outcome.weights.values()
        np.testing.assert_array_equal(untouched, np.ones(10))
