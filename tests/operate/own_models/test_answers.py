"""Models that raymlops did not train become versions that answer as they did."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor

from raymlops.errors import DataError, ModelError, UntrustedError
from raymlops.models import (
    PROBABILITY,
    Bundle,
    write_model,
)
from raymlops.operate import Workspace, register_model, trust_file
from tests.operate.own_models.material import (
    BENIGN,
    DIABETES,
    NUMBER,
    TUMOURS,
    WINE,
    fitted,
    matrix,
    said,
    saved,
    unseen,
)


def test_a_classifier_answers_as_it_did(workspace: Workspace) -> None:
    forest, rows = fitted(TUMOURS, RandomForestClassifier), unseen(TUMOURS)
    version = register_model(
        workspace, "tumours", saved(forest, TUMOURS), rows, postprocessing=BENIGN
    )
    assert str(version) == "tumours 1.0.0"
    wanted = forest.predict_proba(matrix(TUMOURS)[1::2])[:, 1]
    found = said(workspace, "tumours@1.0.0", rows)[PROBABILITY]
    np.testing.assert_allclose(found, wanted, atol=1e-5)
    profile = Bundle.of_version(workspace.store, version).profile
    assert profile.reliability is not None
    assert profile.label_rate == pytest.approx(TUMOURS.target[1::2].mean())
    run = workspace.ledger.runs.get(version.run_id)
    assert (run.kind, run.status, run.params["format"]) == ("import", "finished", "onnx")
    assert workspace.ledger.runs.last_metrics(run.id)["log_loss"] == profile.loss
    again = register_model(
        workspace, "tumours", saved(forest, TUMOURS), rows, postprocessing=BENIGN
    )
    assert str(again.version) == "1.0.1"  # the signature is the same


def test_a_regression_answers_as_it_did(workspace: Workspace) -> None:
    forest, rows = fitted(DIABETES, RandomForestRegressor), unseen(DIABETES)
    register_model(workspace, "diabetes", saved(forest, DIABETES), rows, postprocessing=NUMBER)
    found = said(workspace, "diabetes@1.0.0", rows)["label"]
    np.testing.assert_allclose(found, forest.predict(matrix(DIABETES)[1::2]), rtol=1e-4)


def test_what_is_worse_than_a_constant_is_told(
    workspace: Workspace, caplog: pytest.LogCaptureFixture
) -> None:
    """One that says the label in another unit, or the probability of 0, was taken in silence."""
    right = [
        (fitted(DIABETES, RandomForestRegressor), DIABETES, NUMBER),
        (fitted(TUMOURS, RandomForestClassifier), TUMOURS, BENIGN),
    ]
    for model, data, postprocessing in right:
        register_model(
            workspace, "right", saved(model, data), unseen(data), postprocessing=postprocessing
        )
    assert not caplog.messages

    scaled = SimpleNamespace(data=DIABETES.data, target=DIABETES.target / 100.0)
    malign = SimpleNamespace(data=TUMOURS.data, target=1 - TUMOURS.target)
    tenth = saved(fitted(scaled, RandomForestRegressor), DIABETES)
    turned = saved(fitted(malign, RandomForestClassifier), TUMOURS)
    register_model(workspace, "tenth", tenth, unseen(DIABETES), postprocessing=NUMBER)
    register_model(workspace, "turned", turned, unseen(TUMOURS), postprocessing=BENIGN)
    of_number, of_event = caplog.messages
    assert of_number.startswith("its RMSE is 159.9")
    assert "; always saying their mean costs 71.3" in of_number
    assert of_number.endswith(": does the model say the label in its own unit?")
    assert of_event.endswith("does the model say the probability of 1, and not of 0?")


def test_several_numbers_a_row_are_refused_with_a_way_out(workspace: Workspace) -> None:
    """Classes were asked for, which a number has none of."""
    two = np.stack([DIABETES.target, DIABETES.target], axis=1)
    both = SimpleNamespace(data=DIABETES.data, target=two)
    model, rows = saved(fitted(both, RandomForestRegressor), DIABETES), unseen(DIABETES)
    with pytest.raises(ModelError, match=r"\[221, 2\], not one number a row: keep the one of its"):
        register_model(workspace, "two", model, rows, postprocessing=NUMBER)


def test_a_file_that_could_run_code_is_registered_once_it_is_trusted(
    workspace: Workspace, tmp_path: Path
) -> None:
    path, rows = tmp_path / "model.pkl", unseen(TUMOURS)
    write_model(saved(fitted(TUMOURS, RandomForestClassifier), TUMOURS, "pickle"), path)
    with pytest.raises(UntrustedError, match="raymlops models trust FILE"):
        register_model(workspace, "tumours", path, rows, postprocessing=BENIGN)
    trust_file(workspace, path, who="ann", why="it is mine")
    register_model(workspace, "tumours", path, rows, postprocessing=BENIGN)
    assert len(said(workspace, "tumours@1.0.0", rows)[PROBABILITY]) == rows.num_rows


def test_what_could_not_answer_is_not_registered(workspace: Workspace) -> None:
    # It was, and made champion; its deployment failed.
    three, forest = fitted(WINE, RandomForestClassifier), fitted(TUMOURS, RandomForestClassifier)
    binary = unseen(SimpleNamespace(data=WINE.data, target=WINE.target > 0))
    gap = unseen(TUMOURS).set_column(0, "x0", pa.array([None] + [1.0] * 283))
    for model, rows, postprocessing, error, message in (
        (saved(three, WINE), binary, BENIGN, ModelError, r"shape \[89, 3\], not one probability"),
        (saved(three, WINE), unseen(WINE), BENIGN, DataError, "'label' holds 2; a probability"),
        (saved(forest, TUMOURS), gap, BENIGN, DataError, "'x0' lacks 1 of 284 values"),
        (saved(forest, TUMOURS), unseen(TUMOURS, target="y"), BENIGN, DataError, "no column 'lab"),
        (
            saved(fitted(DIABETES, RandomForestRegressor), DIABETES),
            unseen(SimpleNamespace(data=DIABETES.data, target=DIABETES.target > 100)),
            BENIGN,
            ModelError,
            "which is no probability: give reads='logit'",
        ),
    ):
        with pytest.raises(error, match=message):
            register_model(workspace, "m", model, rows, postprocessing=postprocessing)
    assert workspace.ledger.registry.models() == []
    assert workspace.ledger.runs.list() == []
