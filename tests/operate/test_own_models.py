"""Models that raymlops did not train become versions that answer as they did."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from sklearn.datasets import load_breast_cancer, load_diabetes, load_wine
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor
from sklearn.metrics import log_loss, ndcg_score

from raymlops.demo.digits import sources
from raymlops.errors import DataError, ModelError, UntrustedError
from raymlops.models import (
    FORMATS,
    PROBABILITIES,
    PROBABILITY,
    Artifact,
    Bundle,
    Postprocessing,
    export,
    format_named,
    write_model,
)
from raymlops.operate import Workspace, register_model, trust_file
from raymlops.train import TrainSpec
from raymlops.train.loop.loop import Loop
from raymlops.train.plan.seat import Seat
from raymlops.train.spec.sources import Sources
from tests import irises

PAGE = (Path(__file__).parents[2] / "docs/own_model.md").read_text()
TUMOURS, DIABETES, WINE = load_breast_cancer(), load_diabetes(), load_wine()
BENIGN = Postprocessing(label="label", reads="probability")
NUMBER = Postprocessing(label="label", reads="number")


@pytest.fixture
def workspace(tmp_path: Path) -> Iterator[Workspace]:
    with Workspace.open(overrides=[f"home={tmp_path / 'home'}"]) as workspace:
        yield workspace


def matrix(data: Any) -> np.ndarray:
    return data.data.astype(np.float32)


def unseen(data: Any, *, target: str = "label") -> pa.Table:
    """Every other row: the models below are fitted on those between."""
    values = matrix(data)[1::2]
    columns = {f"x{i}": values[:, i] for i in range(values.shape[1])}
    return pa.table({**columns, target: data.target[1::2]})


def fitted(data: Any, kind: Any) -> Any:
    return kind(n_estimators=10, random_state=0).fit(matrix(data)[::2], data.target[::2])


def saved(model: Any, data: Any, format: str = "onnx") -> Any:
    return format_named(format).save(model, matrix(data)[:20])


def said(workspace: Workspace, reference: str, rows: pa.Table) -> dict[str, np.ndarray]:
    version = workspace.ledger.registry.resolve(reference)
    columns = {name: rows[name].to_numpy() for name in rows.column_names if name != "label"}
    return Bundle.of_version(workspace.store, version).predict(columns)


def test_the_page_names_every_format() -> None:
    lines = re.findall(r"^\| `(\w+)`( \*)? \| (.*) \| (.*) \| (.*) \|$", PAGE, re.MULTILINE)
    told = {
        name: (tuple(re.findall(r"`(\.[\w.]+)`", files)), extra != "", kinds, "yes" in code)
        for name, extra, files, kinds, code in lines
    }
    assert told == {
        each.name: (
            each.suffixes,
            each.extra == "formats",
            ", ".join(sorted(each.kinds)),
            each.runs_code or each.name == "skops",  # which looks into the file first
        )
        for each in FORMATS
    }


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


RELEVANCE = Postprocessing(label="label", reads="relevance")


def ranked() -> tuple[Artifact, pa.Table, np.ndarray]:
    """A forest that orders the wines of each query, thirty of which are useful as they are of the
    first kind or, less so, the second; rows, and what it says of them."""
    wanted = 2.0 - WINE.target
    forest = fitted(SimpleNamespace(data=WINE.data, target=wanted), RandomForestRegressor)
    rows = unseen(SimpleNamespace(data=WINE.data, target=wanted))
    queries = np.random.default_rng(0).choice(["red", "white", "rose", "none"], rows.num_rows)
    useless = np.where(queries == "none", 0.0, rows["label"].to_numpy())
    rows = rows.set_column(13, "label", pa.array(useless)).append_column("query", pa.array(queries))
    return saved(forest, WINE), rows, forest.predict(matrix(WINE)[1::2])


def test_a_ranking_answers_as_it_did_and_is_held_to_its_order(workspace: Workspace) -> None:
    model, rows, scores = ranked()
    version = register_model(
        workspace, "wines", model, rows, postprocessing=RELEVANCE, query="query"
    )
    bundle = Bundle.of_version(workspace.store, version)
    assert bundle.signature.is_ranking
    assert not bundle.signature.is_regression
    assert "query" not in {field.name for field in bundle.signature.inputs}
    found = said(workspace, "wines@1.0.0", rows.drop_columns("query"))["label"]
    np.testing.assert_allclose(found, scores, rtol=1e-5)
    relevance, queries = rows["label"].to_numpy(), rows["query"].to_numpy()
    losses = [
        1.0 - ndcg_score([relevance[queries == each]], [found[queries == each]], k=10)
        for each in ("red", "white", "rose")  # in "none" nothing is of any use
    ]
    assert bundle.profile.loss == pytest.approx(np.mean(losses))
    assert 0.0 < bundle.profile.loss < 0.2
    assert bundle.profile.tolerance == pytest.approx(np.quantile(losses, 0.9))
    assert bundle.profile.far_off_rate == pytest.approx(1 / 3)
    logged = workspace.ledger.runs.last_metrics(version.run_id)
    assert logged == {"ndcg_loss": bundle.profile.loss}


def test_an_order_that_nothing_tells_of_is_refused(workspace: Workspace) -> None:
    model, rows, _ = ranked()
    nowhere = rows.set_column(13, "label", pa.array(np.zeros(rows.num_rows)))
    below = rows.set_column(13, "label", pa.array(np.full(rows.num_rows, -1.0)))
    gap = rows.set_column(14, "query", pa.array([None, *rows["query"].to_pylist()[1:]]))
    plain = rows.drop_columns("query")
    for table, saying, query, error, message in (
        (rows, RELEVANCE, None, ValueError, "name the column that tells these apart"),
        (plain, NUMBER, "query", ValueError, "a number orders nothing: leave it out"),
        (plain, RELEVANCE, "query", DataError, "no column 'query', which is to say which of them"),
        (gap, RELEVANCE, "query", DataError, "names no query in 1 of 89 rows"),
        (below, RELEVANCE, "query", DataError, "holds -1; how relevant a row was is 0, of no use"),
        (nowhere, RELEVANCE, "query", ModelError, "in none of 4 queries is a row"),
    ):
        with pytest.raises(error, match=message):
            register_model(workspace, "m", model, table, postprocessing=saying, query=query)
    assert workspace.ledger.registry.models() == []


def test_an_order_that_is_turned_is_told(
    workspace: Workspace, caplog: pytest.LogCaptureFixture
) -> None:
    _, rows, _ = ranked()
    forest = fitted(WINE, RandomForestRegressor)  # which says most of what is wanted least
    model = saved(forest, WINE)
    register_model(workspace, "wines", model, rows, postprocessing=RELEVANCE, query="query")
    assert "a random order costs 0." in caplog.text
    assert "does it say the largest of the most relevant rows?" in caplog.text


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


def test_the_page_can_be_typed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RAYMLOPS__HOME", str(tmp_path / "home"))
    first, second, ranking, third = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    names: dict[str, Any] = {}
    exec(first, names)
    assert capsys.readouterr().out == "tumours 1.0.0\n"
    module = torch.nn.Sequential(torch.nn.Linear(30, 1), torch.nn.Flatten(0))
    names["result"] = SimpleNamespace(model=lambda: module)
    exec(second, names)
    with Workspace.open() as workspace:
        logits = Postprocessing(label="benign", reads="logit")
        register_model(workspace, "logits", names["model"], names["rows"], postprocessing=logits)
        assert workspace.ledger.registry.models() == ["logits", "tumours"]
    exec(ranking, names)
    assert capsys.readouterr().out == "departures 1.0.0\n"
    names["result"] = SimpleNamespace(model=trained_digits)
    exec(third, names)
    assert capsys.readouterr().out == "digits 1.0.0\n"
    with Workspace.open() as workspace:
        version = workspace.ledger.registry.resolve("digits@1.0.0")
        known = Bundle.of_version(workspace.store, version).profile.reliability
        assert known is not None
        assert known.error_rate < 0.1


def trained_digits() -> torch.nn.Module:
    """What the spec of the digits has learned after a few epochs."""
    spec = TrainSpec.read(Path(__file__).parents[2] / "configs/digits.yaml")
    train, validation = sources()
    loop = Loop(
        replace(spec, epochs=8),
        Seat(),
        sources=Sources(train=train, validation=validation),
        log=lambda *_: None,
    )
    loop.run()
    network: torch.nn.Module = loop.parts[0]
    return network
