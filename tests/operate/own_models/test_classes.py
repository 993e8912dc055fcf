"""Models of several classes answer as they did."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest
import torch
from sklearn.ensemble import RandomForestRegressor
from sklearn.metrics import log_loss

from raymlops.errors import DataError, ModelError
from raymlops.models import (
    PROBABILITIES,
    PROBABILITY,
    Artifact,
    Bundle,
    Postprocessing,
    export,
)
from raymlops.operate import Workspace, register_model
from tests import irises
from tests.operate.own_models.material import (
    DIABETES,
    fitted,
    saved,
    unseen,
)

SPECIES = Postprocessing(label="species", reads="probability", classes=irises.SPECIES)


@pytest.mark.parametrize("format", ["onnx", "pmml", "skops"])
def test_a_model_of_several_classes_answers_as_it_did(workspace: Workspace, format: str) -> None:
    rows = irises.rows()
    version = register_model(
        workspace, "irises", irises.saved(format), rows, postprocessing=SPECIES
    )
    bundle = Bundle.of_version(workspace.store, version)
    found = bundle.predict(irises.columns())
    np.testing.assert_allclose(found[PROBABILITIES], irises.probabilities(), atol=1e-5)
    names = np.array(irises.SPECIES)[irises.probabilities().argmax(axis=1)]
    assert found["species"].tolist() == names.tolist()
    np.testing.assert_array_equal(found[PROBABILITY], found[PROBABILITIES].max(axis=1))
    assert bundle.check_answers() == 8
    right = names == rows["species"].to_numpy()
    assert bundle.profile.class_rates == pytest.approx([1 / 3] * 3)
    assert bundle.profile.reliability is not None
    assert bundle.profile.reliability.error_rate == pytest.approx(1 - right.mean())
    wanted = log_loss(irises.TARGET[irises.UNSEEN], irises.probabilities())
    assert bundle.profile.loss == pytest.approx(wanted, abs=1e-5)
    logged = workspace.ledger.runs.last_metrics(version.run_id)
    assert logged == {"log_loss": bundle.profile.loss}


def test_logits_of_a_network_are_those_of_whole_numbers(workspace: Workspace) -> None:
    fitted = irises.fitted()
    network = torch.nn.Linear(4, 3)
    with torch.no_grad():
        network.weight.copy_(torch.tensor(fitted.coef_))
        network.bias.copy_(torch.tensor(fitted.intercept_))
    model = Artifact(format="onnx", data=export(network, irises.MATRIX[:20]))
    numbers = (10, 2, 7)
    postprocessing = Postprocessing(label="species", classes=numbers)
    version = register_model(
        workspace, "irises", model, irises.rows(numbers), postprocessing=postprocessing
    )
    found = Bundle.of_version(workspace.store, version).predict(irises.columns())
    np.testing.assert_allclose(found[PROBABILITIES], irises.probabilities(), atol=1e-5)
    assert found["species"].dtype == np.int64
    assert found["species"].tolist() == [
        numbers[each] for each in irises.probabilities().argmax(axis=1)
    ]
    renamed = Postprocessing(label="species", classes=(10, 2, 8))
    again = register_model(
        workspace, "irises", model, irises.rows((10, 2, 8)), postprocessing=renamed
    )
    assert str(again.version) == "2.0.0"  # it says what no caller knew


def test_classes_in_another_order_than_the_models_are_told(
    workspace: Workspace, caplog: pytest.LogCaptureFixture
) -> None:
    turned = Postprocessing(label="species", reads="probability", classes=irises.SPECIES[::-1])
    register_model(workspace, "irises", irises.saved(), irises.rows(), postprocessing=turned)
    assert "are the classes in the order of the model's columns, 'virginica'" in caplog.text


def test_classes_that_the_model_does_not_say_are_refused(workspace: Workspace) -> None:
    four = Postprocessing(label="species", reads="probability", classes=(*irises.SPECIES, "rose"))
    numbered = Postprocessing(label="species", reads="probability", classes=(0, 1, 2))
    cut = irises.rows().slice(0, 1).set_column(4, "species", pa.array(["rose"]))
    twice = saved(fitted(DIABETES, RandomForestRegressor), DIABETES)
    diabetic = unseen(
        SimpleNamespace(data=DIABETES.data, target=np.full(442, "setosa")),
        target="species",
    )
    for model, rows, postprocessing, error, message in (
        (irises.saved(), irises.rows(), four, ModelError, r"\[75, 3\], not one .* of 4 classes"),
        (irises.saved(), cut, SPECIES, DataError, "holds 'rose', the classes of the model are"),
        (
            irises.saved(),
            irises.rows(),
            numbered,
            DataError,
            "is string, the classes are whole num",
        ),
        (twice, diabetic, SPECIES, ModelError, r"shape \[221\], not one probability a row for"),
    ):
        with pytest.raises(error, match=message):
            register_model(workspace, "m", model, rows, postprocessing=postprocessing)
    assert workspace.ledger.registry.models() == []
