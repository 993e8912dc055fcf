"""Both loops: any number of workers learns what one learns, and what Keras by itself learns."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from raymlops.train import CheckpointPolicy, Factory, OptimizerSpec
from raymlops.train.keras.spec import LoopName
from tests.train.keras import training
from tests.train.keras.host import Host
from tests.train.keras.loops import (
    LIBRARIES,
    Outcomes,
    assert_close,
    assert_equal,
    assert_learned_alike,
    crew,
    spec_of,
    train,
)
from tests.train.keras.specs import (
    MLP,
    NOISY,
    TAGGER,
)


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


def test_a_worker_that_is_killed_leaves_no_files(loop: LoopName, tensorflow_host: Host) -> None:
    """Each left a dozen, of what TensorFlow had traced: Ray ends its workers by killing them."""
    spec = replace(spec_of(loop, "mlp"), max_steps=1)
    assert tensorflow_host.run(crew(loop), training.leave_files, spec) == [[]]


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


def test_numbers_of_keras_random_are_those_of_keras_by_itself(
    tensorflow_host: Host, tmp_path: Path
) -> None:
    """Their generator could not be made where a strategy traced the first step. Replicas draw
    numbers of their own, and a training that goes on draws what it would have."""
    ((alone,),) = tensorflow_host.run(crew("custom"), training.train, NOISY)
    (plain,) = tensorflow_host.run(crew("custom"), training.train_plainly, NOISY, "keras")
    assert_close(alone.weights.values(), plain)
    (resumed,) = tensorflow_host.run(crew("custom"), training.train_twice, NOISY, tmp_path)
    assert_equal(resumed.weights.values(), alone.weights.values())
    ((mirrored,),) = tensorflow_host.run(crew("custom", num_devices=2), training.train, NOISY)
    assert mirrored.losses != alone.losses


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


def test_steps_that_a_mask_leaves_out_count_for_nothing(tensorflow_host: Host) -> None:
    """A penalty on what a layer gives counted a row that stood in, and parts of a batch alike."""
    one, two = (train(tensorflow_host, "custom", workers, ["tagger"]) for workers in (1, 2))
    assert_learned_alike(one, two)
    (plain,) = tensorflow_host.run(crew("custom"), training.train_plainly, TAGGER, "keras")
    assert_close(one["tagger"][0].weights.values(), plain)


def test_validation_leaves_out_what_training_does(loop: LoopName, tensorflow_host: Host) -> None:
    still = OptimizerSpec(name="sgd", learning_rate=1e-9)
    spec = replace(spec_of(loop, "tagger"), batch_size=333, epochs=1, optimizer=still)
    ((outcome,),) = tensorflow_host.run(crew(loop), training.train, spec)
    (epoch,) = outcome.epochs
    assert epoch["validation_loss"] == pytest.approx(epoch["train_loss"], rel=1e-5)


def test_steps_of_ones_own_tell_the_loss_of_the_whole_batch(tensorflow_host: Host) -> None:
    """On two workers it was half of that on one."""
    model = Factory(call="tests.train.keras.models:tracking")
    spec = replace(spec_of("fit", "mlp"), model=model, max_steps=2)
    alone, two = (
        tensorflow_host.run(crew("fit", num_workers=workers), training.train, spec)[0][0].losses
        for workers in (1, 2)
    )
    assert alone[0] > 1
    np.testing.assert_allclose(two, alone, rtol=1e-5)


@pytest.mark.parametrize("loss", ["binary_cross_entropy", "mse"])
def test_a_vector_of_targets_is_validated_as_it_is_trained(
    loss: str, loop: LoopName, tensorflow_host: Host
) -> None:
    """`fit` broke off after its first epoch: tf_keras matches their shapes where it trains."""
    still = OptimizerSpec(name="sgd", learning_rate=1e-9)
    models = "tests.train.keras.models"
    model, data = (Factory(call=f"{models}:{name}") for name in ("single", "halves"))
    spec = replace(
        spec_of(loop, "mlp"), model=model, data=data, loss=loss, optimizer=still, epochs=1
    )
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


def test_workers_that_find_other_checkpoints_go_on_from_one(
    tmp_path: Path, tensorflow_host: Host
) -> None:
    """One went on from step 8 and one from step 4, with gradients of other rows and weights: what
    the first ended with was kept as if it were right."""
    policy = CheckpointPolicy(every_steps=4, keep=3, asynchronous=False)
    two, spec = crew("custom", num_workers=2), replace(MLP, max_steps=12, checkpoints=policy)
    newer, older = tmp_path / "newer", tmp_path / "older"
    whole, _ = tensorflow_host.run(two, training.train_in, spec, newer, newer)
    shutil.copytree(newer / "step-00000004", older / "step-00000004")
    first, second = tensorflow_host.run(two, training.train_in, spec, older, newer)
    assert first.losses == second.losses == whole.losses[4:]
    assert_equal(first.weights.values(), whole.weights.values())


def test_weights_of_another_model_are_refused(two: Outcomes, tensorflow_host: Host) -> None:
    wide = replace(MLP, model=Factory(call="tests.train.keras.models:mlp", arguments={"width": 33}))
    expected = (
        r"what was saved is of another model: where model/000/kernel \(64, 32\) was saved it has "
        r"model/000/kernel \(64, 33\); use the factory"
    )
    with pytest.raises(RuntimeError, match=expected):
        tensorflow_host.run(crew("custom"), training.predict, wide, two["mlp"][0].weights)
