"""A number as the target of a table: the temperature, from what else was observed."""

from __future__ import annotations

from dataclasses import asdict, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
import torch
from numpy.typing import NDArray
from sklearn.linear_model import Ridge
from sklearn.metrics import mean_absolute_error, r2_score, root_mean_squared_error

from raymlops.data import Profile, TableSchema, add_dataset, read_columns
from raymlops.errors import TrainingError
from raymlops.ledger import Code, Ledger
from raymlops.models import OnnxScorer
from raymlops.storage import Store
from raymlops.train import NumberQuality, ParallelPlan, TabularSpec
from raymlops.train.tabular.arrays import Arrays
from raymlops.train.tabular.split import split_by_time
from raymlops.train.tabular.trainer import Epoch, fit_alone
from raymlops.train.tabular.training import NETWORK, Provenance, TrainingJob
from tests.weather import SCHEMA, weather

SPEC = TabularSpec(hidden=(32,), dropout=0.0, epochs=3, batch_size=256, learning_rate=1e-2)


def said(arrays: Arrays) -> NDArray[np.float32]:
    network = fit_alone(arrays, SPEC, on_epoch=lambda _: None)
    with torch.no_grad():
        found: NDArray[np.float32] = network(torch.from_numpy(arrays.validation)).numpy()
    return found


def test_a_network_learns_numbers_in_their_own_unit() -> None:
    arrays = split_by_time(weather(), SCHEMA, 0.2).arrays
    found, came = said(arrays), arrays.validation_labels
    quality = arrays.target.judge(found, came)
    assert quality.to_dict() == {
        "rmse": root_mean_squared_error(came, found),
        "mae": mean_absolute_error(came, found),
        "r2": r2_score(came, found),
    }
    simple = arrays.target.simple_models
    linear = Ridge().fit(arrays.train.astype(float), arrays.train_labels)
    np.testing.assert_allclose(
        simple["linear regression"](arrays), linear.predict(arrays.validation.astype(float))
    )
    constant = arrays.target.judge(simple["constant"](arrays), came)
    assert constant.loss == pytest.approx(
        np.sqrt(((came - arrays.train_labels.mean()) ** 2).mean())
    )
    assert quality.loss < 0.3 * constant.loss


def test_what_is_learned_does_not_depend_on_the_unit() -> None:
    """A network that learns Fahrenheit from initial weights around 0 spends epochs on the mean."""
    table = weather()
    number = table.schema.get_field_index("temp")
    celsius = pc.multiply(pc.subtract(table["temp"], 32.0), 5.0 / 9.0)
    far = pc.add(pc.multiply(table["temp"], 1000.0), 1e6)
    there, fahrenheit, elsewhere = (
        said(split_by_time(each, SCHEMA, 0.2).arrays)
        for each in (
            table.set_column(number, "temp", celsius),
            table,
            table.set_column(number, "temp", far),
        )
    )
    np.testing.assert_allclose(there * 9 / 5 + 32, fahrenheit, atol=1e-3)
    np.testing.assert_allclose((elsewhere - 1e6) / 1000, fahrenheit, atol=1e-2)


def test_the_losses_of_epochs_are_shares_of_the_variance() -> None:
    arrays = split_by_time(weather(), SCHEMA, 0.2).arrays
    epochs: list[Epoch] = []
    network = fit_alone(arrays, SPEC, on_epoch=epochs.append)
    with torch.no_grad():
        errors = network(torch.from_numpy(arrays.validation)).numpy() - arrays.validation_labels
    wanted = (errors**2).mean() / arrays.train_labels.var()
    assert epochs[-1].validation_loss == pytest.approx(wanted, rel=1e-3)


def test_a_part_without_two_values_is_refused() -> None:
    table = weather().slice(0, 50)
    same = table.set_column(
        table.schema.get_field_index("temp"), "temp", pa.array([39.2] * 40 + [41.0] * 10)
    )
    told = (
        "the training part has 40 of 50 rows, in all of which 'temp' is the same; it needs two or "
    )
    with pytest.raises(TrainingError, match=told):
        split_by_time(same, SCHEMA, 0.2)


def test_numbers_that_float32_does_not_tell_apart_are_refused() -> None:
    """Of labels about 1e8 with a deviation of 0.8 the network's R² was -3.9, the ridge's 0.5."""
    table, number = weather(), SCHEMA.target
    index = table.schema.get_field_index(number)
    far = table.set_column(index, number, pc.add(pc.divide(table[number], 10.0), 1e8))
    told = r"'temp' cannot be learned: it is 1e\+08 on average, .* values are 8 apart there"
    with pytest.raises(TrainingError, match=told):
        split_by_time(far, SCHEMA, 0.2)


JOB = TrainingJob(
    model="weather",
    schema=SCHEMA,
    spec=SPEC,
    plan=ParallelPlan(data=2),
    provenance=Provenance(
        code=Code(commit="c" * 40, dirty_digest=None), config="{}", environment="python"
    ),
)


def test_a_threshold_is_recorded_of_an_event_alone(tumour_schema: TableSchema) -> None:
    """Runs of numbers told of a threshold of 0.5, by which nothing was decided."""
    assert JOB.parameters(SPEC) == {
        name: value for name, value in asdict(SPEC).items() if name != "threshold"
    }
    assert replace(JOB, schema=tumour_schema).parameters(SPEC) == asdict(SPEC)


@pytest.mark.cluster
@pytest.mark.usefixtures("ray_cluster")
def test_two_workers_learn_the_numbers_of_one_process(ledger: Ledger, store: Store) -> None:
    table = weather()
    training = JOB.run(ledger, store, add_dataset(ledger, store, table, SCHEMA))
    arrays = split_by_time(table, SCHEMA, SPEC.validation_share).arrays
    bundle, came = training.bundle, arrays.validation_labels
    answers = bundle.predict(read_columns(table.slice(len(arrays.train)), SCHEMA.features))["temp"]
    np.testing.assert_allclose(answers, said(arrays), atol=1e-3)
    quality = training.qualities[NETWORK]
    assert isinstance(quality, NumberQuality)
    assert quality.rmse == root_mean_squared_error(came, answers)
    assert ledger.runs.last_metrics(training.run.id)["rmse"] == quality.rmse
    assert "threshold" not in training.run.params
    assert [field.name for field in bundle.signature.outputs] == ["temp"]
    assert OnnxScorer(bundle.model).outputs == ["prediction"]  # numbers were called logits
    assert bundle.profile.loss == pytest.approx(quality.rmse)
    assert bundle.profile.label_rate == arrays.train_labels.mean()
    assert bundle.profile.tolerance == np.quantile(np.abs(answers - came), 0.9)
    assert Profile.from_dict(bundle.profile.to_dict()) == bundle.profile
    assert set(training.qualities) == {"constant", "linear regression", NETWORK}
    worse = replace(quality, rmse=1e3)
    assert training.better_simple_model is None
    assert (
        replace(training, qualities={**training.qualities, NETWORK: worse}).better_simple_model
        == "linear regression"
    )
