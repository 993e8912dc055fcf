"""Both loops: any number of workers learns what one learns, and what Keras by itself learns."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pytest
from numpy.typing import NDArray

from raymlops.train import CheckpointPolicy, Factory, OptimizerSpec
from raymlops.train.keras import KerasSpec
from raymlops.train.keras.backend import KerasBackend
from raymlops.train.keras.spec import LoopName
from tests.train.keras import training
from tests.train.keras.host import Crew, Host
from tests.train.keras.specs import (
    BY_BATCH,
    CLIPPED_TAGGER,
    CNN,
    MLP,
    NORMALISED,
    TAGGER,
    UNVALIDATED,
)
from tests.train.keras.training import Outcome

LOOPS: tuple[LoopName, ...] = ("custom", "fit")
LIBRARIES = {"custom": "keras", "fit": "tf_keras"}
SPECS = {
    "mlp": MLP,
    "cnn": CNN,
    "normalised": NORMALISED,
    "by batch": BY_BATCH,
    "tagger": TAGGER,
    "clipped tagger": CLIPPED_TAGGER,
}

Outcomes: TypeAlias = Mapping[str, list[Outcome]]
"""By the spec's name, each worker's."""


def spec_of(loop: LoopName, name: str) -> KerasSpec:
    return replace(SPECS[name], loop=loop)


def crew(loop: LoopName, *, num_workers: int = 1, num_devices: int = 1) -> Crew:
    environment = KerasBackend(spec_of(loop, "mlp")).environment
    return Crew(num_workers=num_workers, num_devices=num_devices, environment=environment)


def train(host: Host, loop: LoopName, num_workers: int, names: Iterable[str]) -> Outcomes:
    specs = [spec_of(loop, name) for name in names]
    found = host.run(crew(loop, num_workers=num_workers), training.train, *specs)
    return dict(zip(names, map(list, zip(*found, strict=True)), strict=True))


def assert_close(mine: Iterable[NDArray[Any]], theirs: Iterable[NDArray[Any]]) -> None:
    for array, other in zip(mine, theirs, strict=True):
        np.testing.assert_allclose(array, other, atol=1e-5)


def assert_equal(mine: Iterable[NDArray[Any]], theirs: Iterable[NDArray[Any]]) -> None:
    for array, other in zip(mine, theirs, strict=True):
        np.testing.assert_array_equal(array, other)


@pytest.fixture(scope="module", params=LOOPS)
def loop(request: pytest.FixtureRequest) -> LoopName:
    found: LoopName = request.param
    return found


@pytest.fixture(scope="module")
def one(loop: LoopName, tensorflow_host: Host) -> Outcomes:
    """Trained by one worker; normalisation by its rows and dropout depend on how many there are."""
    return train(tensorflow_host, loop, 1, ["mlp", "by batch"])


@pytest.fixture(scope="module")
def two(loop: LoopName, tensorflow_host: Host) -> Outcomes:
    """Trained by two."""
    return train(tensorflow_host, loop, 2, ["mlp", "normalised", "by batch"])


def test_two_workers_learn_what_one_learns(one: Outcomes, two: Outcomes) -> None:
    """A row that stood in where a short batch has none for a worker was normalised by."""
    assert_learned_alike(one, two)


@pytest.mark.endurance
def test_two_workers_learn_what_one_learns_of_images(tensorflow_host: Host) -> None:
    one, two = (train(tensorflow_host, "custom", workers, ["cnn"]) for workers in (1, 2))
    assert_learned_alike(one, two)


def assert_learned_alike(one: Outcomes, two: Outcomes) -> None:
    for name, (alone,) in one.items():
        first, second = two[name]
        assert alone.progress.step == 20
        assert alone.losses[-1] < alone.losses[0]
        np.testing.assert_allclose(first.losses, alone.losses, rtol=1e-5)
        assert second.losses == first.losses
        assert_close(first.weights.values(), alone.weights.values())
        assert len(alone.epochs) == 2
        for mine, theirs in zip(first.epochs, alone.epochs, strict=True):
            assert mine == pytest.approx(theirs, rel=1e-5)


def test_a_step_tells_what_it_took(loop: LoopName, one: Outcomes) -> None:
    """Of Keras it was time and rows a second alone."""
    told = one["mlp"][0].last_step
    split = {"data_s", "compute_s", "gradient_norm"} if loop == "custom" else set()
    names = {"loss", "learning_rate", "step_s", "rows_per_s", "memory_mb"}
    assert told.keys() == names | split
    assert told["learning_rate"] == pytest.approx(0.001)
    assert min(told.values()) > 0
    assert sum(told.get(part, 0.0) for part in ("data_s", "compute_s")) <= told["step_s"]


def test_epochs_are_told_of(one: Outcomes) -> None:
    told = [set(epoch) for epoch in one["mlp"][0].epochs]
    assert told == [{"train_loss", "validation_loss"}] * 2


def test_workers_end_with_equal_weights(two: Outcomes) -> None:
    for first, second in two.values():
        assert_equal(first.weights.values(), second.weights.values())


def test_one_worker_learns_what_keras_by_itself_learns(
    loop: LoopName, one: Outcomes, tensorflow_host: Host
) -> None:
    spec = spec_of(loop, "mlp")
    (plain,) = tensorflow_host.run(crew(loop), training.train_plainly, spec, LIBRARIES[loop])
    assert_close(one["mlp"][0].weights.values(), plain)


def test_devices_of_one_process_learn_what_one_learns(
    loop: LoopName, one: Outcomes, tensorflow_host: Host
) -> None:
    two_devices = crew(loop, num_devices=2)
    ((mirrored,),) = tensorflow_host.run(two_devices, training.train, spec_of(loop, "mlp"))
    np.testing.assert_allclose(mirrored.losses, one["mlp"][0].losses, rtol=1e-5)
    assert_close(mirrored.weights.values(), one["mlp"][0].weights.values())


def test_devices_drop_places_of_their_own(loop: LoopName, tensorflow_host: Host) -> None:
    """Those of `custom` dropped the same, and learned less of a batch."""
    spec = spec_of(loop, "normalised")
    (masks,) = tensorflow_host.run(crew(loop, num_devices=2), training.drop, spec)
    assert len({mask.tobytes() for mask in masks}) == 4


def test_workers_drop_places_of_their_own(tensorflow_host: Host) -> None:
    spec = spec_of("custom", "normalised")
    first, second = tensorflow_host.run(crew("custom", num_workers=2), training.drop, spec)
    assert len({mask.tobytes() for mask in first + second}) == 4


def test_a_training_goes_on_from_its_checkpoint_bit_equal(
    loop: LoopName, one: Outcomes, tensorflow_host: Host, tmp_path: Path
) -> None:
    (found,) = tensorflow_host.run(crew(loop), training.train_twice, spec_of(loop, "mlp"), tmp_path)
    assert found.losses == one["mlp"][0].losses[8:]
    assert_equal(found.weights.values(), one["mlp"][0].weights.values())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-00000016", "step-00000020"]


def test_either_keras_predicts_equally_with_the_weights(
    loop: LoopName, two: Outcomes, tensorflow_host: Host
) -> None:
    trained = two["normalised"][0]
    (outputs,) = tensorflow_host.run(
        crew("custom"), training.predict, spec_of("custom", "normalised"), trained.weights
    )
    np.testing.assert_allclose(outputs, trained.outputs, atol=1e-5)


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


def test_steps_that_a_mask_leaves_out_count_for_nothing(tensorflow_host: Host) -> None:
    """A penalty on what a layer gives counted a row that stood in, and parts of a batch alike."""
    one, two = (train(tensorflow_host, "custom", workers, ["tagger"]) for workers in (1, 2))
    assert_learned_alike(one, two)
    (plain,) = tensorflow_host.run(crew("custom"), training.train_plainly, TAGGER, "keras")
    assert_close(one["tagger"][0].weights.values(), plain)


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


def test_validation_leaves_out_what_training_does(loop: LoopName, tensorflow_host: Host) -> None:
    still = OptimizerSpec(name="sgd", learning_rate=1e-9)
    spec = replace(spec_of(loop, "tagger"), batch_size=333, epochs=1, optimizer=still)
    ((outcome,),) = tensorflow_host.run(crew(loop), training.train, spec)
    (epoch,) = outcome.epochs
    assert epoch["validation_loss"] == pytest.approx(epoch["train_loss"], rel=1e-5)


def test_a_loss_of_ones_own_gets_targets_of_the_type_of_outputs(
    loop: LoopName, tensorflow_host: Host
) -> None:
    models = "tests.train.keras.models"
    data, loss = Factory(call=f"{models}:doubles"), Factory(call=f"{models}:own_loss")
    spec = replace(spec_of(loop, "mlp"), data=data, loss=loss)
    assert tensorflow_host.run(crew(loop), training.failure_of, spec) == [["nothing"]]


def test_layers_adapted_to_data_have_what_they_were_trained_with(
    loop: LoopName, tensorflow_host: Host
) -> None:
    """Once a table had grown they normalised by what it was now."""
    trained, made_later = (
        Factory(call="tests.train.keras.models:adapted", arguments={"rows": rows})
        for rows in (10, 1000)
    )
    ((wanted, given),) = tensorflow_host.run(crew(loop), training.hand_over, trained, made_later)
    np.testing.assert_array_equal(given, wanted)


def test_weights_of_another_model_are_refused(two: Outcomes, tensorflow_host: Host) -> None:
    wide = replace(MLP, model=Factory(call="tests.train.keras.models:mlp", arguments={"width": 33}))
    expected = (
        r"what was saved is of another model: where model/000/kernel \(64, 32\) was saved it has "
        r"model/000/kernel \(64, 33\); use the factory"
    )
    with pytest.raises(RuntimeError, match=expected):
        tensorflow_host.run(crew("custom"), training.predict, wide, two["mlp"][0].weights)
