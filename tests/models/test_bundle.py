from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from raymlops.data import Class, Columns, NumberBins, take
from raymlops.errors import (
    IntegrityError,
    ModelError,
    ParityError,
    SignatureError,
    StorageError,
    UntrustedError,
)
from raymlops.ledger import ModelVersion, Version
from raymlops.models import (
    PROBABILITY,
    Artifact,
    Bundle,
    OnnxScorer,
    Postprocessing,
    RequirementWarning,
    export,
    format_named,
    verify_bundle,
)
from raymlops.storage import Store
from raymlops.train.tabular.network import Perceptron
from tests import irises


def test_a_bundle_comes_back_the_same(bundle: Bundle, columns: Columns, store: Store) -> None:
    digest = bundle.save(store)
    loaded = Bundle.load(store, digest)
    assert loaded == bundle
    np.testing.assert_array_equal(
        loaded.predict(columns)[PROBABILITY], bundle.predict(columns)[PROBABILITY]
    )
    assert bundle.save(store) == digest


def test_a_changed_byte_in_any_part_is_refused(bundle: Bundle, store: Store) -> None:
    digest = bundle.save(store)
    for blob in [digest, *store.tree(digest).values()]:
        path = Path(store.uri) / "blobs" / blob[:2] / blob
        whole = path.read_bytes()
        path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
        with pytest.raises(IntegrityError):
            Bundle.load(store, digest)
        path.write_bytes(whole)
    assert Bundle.load(store, digest) == bundle


def test_a_tree_that_is_no_bundle_is_refused(store: Store) -> None:
    digest = store.put_tree({"readme": b"hello"})
    with pytest.raises(ModelError, match="is no bundle"):
        Bundle.load(store, digest)
    with pytest.raises(StorageError, match="holds no blob"):
        Bundle.load(store, "0" * 64)


def test_predictions_are_checked_and_named(bundle: Bundle, columns: Columns) -> None:
    outputs = bundle.predict(take(columns, slice(0, 5)))
    assert list(outputs) == ["probability", "target"]
    assert outputs["probability"].dtype == np.float32
    np.testing.assert_array_equal(outputs["target"], outputs["probability"] >= 0.5)
    with pytest.raises(SignatureError, match="field 'size': missing"):
        bundle.predict({name: column for name, column in columns.items() if name != "size"})


def test_requirements_name_what_runs_it(bundle: Bundle) -> None:
    assert [line.split("==")[0] for line in bundle.requirements] == [
        "numpy", "onnx", "onnxruntime", "scipy",
    ]  # fmt: skip


def test_the_export_gives_the_networks_numbers_at_any_batch_size() -> None:
    network = Perceptron(6, (16, 8), 0.2).eval()
    rows = np.linspace(-3, 3, 600, dtype=np.float32).reshape(100, 6)
    scorer = OnnxScorer(export(network, rows))
    with torch.no_grad():
        wanted = network(torch.from_numpy(rows)).numpy()
    for size in (1, 7, 100):
        np.testing.assert_allclose(scorer(rows[:size]), wanted[:size], atol=1e-5)


class Moody(torch.nn.Module):
    """Answers the exporter in another way than everybody else."""

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        total = rows.sum(1)
        return total + 1 if torch.compiler.is_exporting() else total


def test_an_export_that_predicts_otherwise_is_refused() -> None:
    with pytest.raises(
        ParityError,
        match=r"4 of 4 rows differ, the most row 0: ONNX gives 4, the module 3; they may",
    ):
        export(Moody(), np.ones((4, 3), dtype=np.float32))


def test_bytes_that_are_no_model_are_refused() -> None:
    with pytest.raises(ModelError, match="not a model ONNX Runtime can load"):
        OnnxScorer(b"not a model")


@pytest.fixture(scope="module")
def regression(bundle: Bundle, columns: Columns) -> LogisticRegression:
    matrix = bundle.preprocessing.transform(columns)
    return LogisticRegression().fit(matrix, columns["mean_radius"] < 14)


def bundle_in(format: str, bundle: Bundle, model: LogisticRegression, columns: Columns) -> Bundle:
    """A bundle whose model says probabilities, in any format of scikit-learn's."""
    sample = bundle.preprocessing.transform(columns)[:50]
    return Bundle.of(
        signature=bundle.signature,
        preprocessing=bundle.preprocessing,
        model=format_named(format).save(model, sample),
        postprocessing=Postprocessing(label="target", reads="probability"),
        profile=bundle.profile,
        recorded=lambda _: True,
    )


def version_of(digest: str) -> ModelVersion:
    return ModelVersion(
        model="tumours",
        version=Version(1, 0, 0),
        bundle=digest,
        signature_digest="",
        run_id="",
        created_at=datetime(2024, 1, 1, tzinfo=UTC),
        event_time=None,
    )


@pytest.mark.parametrize("format", ["onnx", "pickle", "joblib", "skops", "pmml"])
def test_the_model_may_be_of_any_scoring_format(
    format: str, bundle: Bundle, regression: LogisticRegression, columns: Columns, store: Store
) -> None:
    made = bundle_in(format, bundle, regression, columns).with_answers()
    loaded = Bundle.of_version(store, version_of(made.save(store)))
    assert (loaded, loaded.format) == (made, format)
    wanted = regression.predict_proba(bundle.preprocessing.transform(columns))[:, 1]
    np.testing.assert_allclose(loaded.predict(columns)[PROBABILITY], wanted, atol=1e-5)
    assert verify_bundle(loaded, "").num_answers == 8


@pytest.mark.parametrize("classes", [irises.SPECIES, (3, 1, 2)])
def test_a_bundle_that_names_classes_is_verified(classes: tuple[Class, ...]) -> None:
    # Their names were taken for numbers, and looked through for NaN.
    assert verify_bundle(irises.bundle(classes).with_answers(), "").num_answers == 8


def test_weights_and_architecture_travel_together(
    bundle: Bundle, columns: Columns, store: Store
) -> None:
    network = torch.nn.Sequential(
        *Perceptron(bundle.preprocessing.width, (8,), 0.0).layers, torch.nn.Flatten(0)
    ).eval()
    matrix = bundle.preprocessing.transform(columns)
    artifact = format_named("safetensors").save(network, matrix[:9])
    made = replace(
        bundle, model=artifact.data, architecture=artifact.architecture, format="safetensors"
    )
    loaded = Bundle.load(store, made.save(store))
    with torch.no_grad():
        wanted = network(torch.from_numpy(matrix)).numpy()
    np.testing.assert_array_equal(loaded.score(columns), wanted)


def test_a_bundle_that_can_run_code_needs_its_digest_recorded(
    bundle: Bundle, regression: LogisticRegression, columns: Columns, store: Store
) -> None:
    digest = bundle_in("pickle", bundle, regression, columns).save(store)
    with pytest.raises(UntrustedError, match=f"can run any code.*{digest}"):
        Bundle.load(store, digest)
    # The model's own digest is not that of the bundle, and proves nothing about it.
    inner = store.tree(digest)["model.pkl"]
    with pytest.raises(UntrustedError):
        Bundle.load(store, digest, recorded=lambda asked: asked == inner)
    Bundle.load(store, digest, recorded=lambda asked: asked == digest).predict(columns)


def test_a_bundle_made_here_of_unknown_bytes_runs_nothing(
    bundle: Bundle, regression: LogisticRegression, columns: Columns
) -> None:
    made = bundle_in("pickle", bundle, regression, columns)
    with pytest.raises(UntrustedError):
        replace(made, trusted=False).predict(columns)


def test_bundles_from_before_there_were_formats_are_onnx(
    bundle: Bundle, columns: Columns, store: Store
) -> None:
    files = store.read_tree(bundle.save(store))
    del files["format.json"]
    assert Bundle.load(store, store.put_tree(files)) == bundle


def test_a_bundle_that_answers_otherwise_is_refused(bundle: Bundle, columns: Columns) -> None:
    good = bundle.with_answers()
    assert good.check_answers() == 8
    assert bundle.check_answers() == 0
    assert good.answers is not None
    changed = replace(good, answers={**good.answers, PROBABILITY: (0.123,) * 8})
    with pytest.raises(
        ParityError, match=r"'probability' now gives .* when it was made it was 0\.123"
    ):
        changed.check_answers()


def test_sample_rows_fit_the_signature(bundle: Bundle) -> None:
    counted = tuple(
        replace(field, datatype="INT64") if field.name == "mean_radius" else field
        for field in bundle.signature.inputs
    )
    whole = replace(bundle, signature=replace(bundle.signature, inputs=counted))
    for made in (bundle, whole):
        made.signature.check(made.sample(100))


def test_sample_rows_reach_a_bound_and_pass_none(bundle: Bundle) -> None:
    flag = NumberBins(name="mean_radius", edges=(0.0, 1.0, np.nextafter(1.0, 2.0)))
    bounded = tuple(
        replace(field, low=0.0, high=1.0) if field.name == "mean_radius" else field
        for field in bundle.signature.inputs
    )
    made = replace(
        bundle,
        signature=replace(bundle.signature, inputs=bounded),
        profile=replace(bundle.profile, bins=(flag,)),
    )
    sample = made.sample(6)
    made.signature.check(sample)
    assert sample["mean_radius"].tolist() == [0.0, 1.0, 1.0, 0.0, 1.0, 1.0]
    second = made.sample_records(2)[1]
    assert list(second) == [field.name for field in bounded]
    assert second["mean_radius"] == 1.0


def test_sample_rows_of_the_largest_numbers_are_finite(bundle: Bundle) -> None:
    # The edge above the largest float is infinite, as no value of a request may be.
    edges = (0.0, float(np.finfo(np.float64).max), float("inf"))
    bins = (NumberBins(name="mean_radius", edges=edges),)
    unbounded = tuple(replace(field, high=None) for field in bundle.signature.inputs)
    made = replace(
        bundle,
        signature=replace(bundle.signature, inputs=unbounded),
        profile=replace(bundle.profile, bins=bins),
    )
    made.signature.check(made.sample(6))


def test_a_missing_package_or_another_major_version_is_told(
    bundle: Bundle, columns: Columns
) -> None:
    missing = replace(bundle, requirements=("no-such-package==1.2",))
    with pytest.raises(
        ModelError, match=r"needs no-such-package==1\.2, which is not installed: pip"
    ):
        missing.predict(columns)
    older = replace(bundle, requirements=("numpy==1.26.4",))
    with pytest.warns(RequirementWarning, match=r"made with numpy 1\.26\.4, installed is 2"):
        older.predict(columns)


def test_a_model_that_says_something_else_is_refused(bundle: Bundle) -> None:
    with pytest.raises(ModelError, match=r"gives shape \[4, 3], not one logit a row"):
        bundle.postprocessing.apply(np.zeros((4, 3), np.float32))
    with pytest.raises(ModelError, match="none is called 'probabilities'"):
        OnnxScorer(_two_outputs())
    assert Artifact(format="onnx", data=b"").digest == (
        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    )


def _two_outputs() -> bytes:
    from onnx import TensorProto, helper

    def value(name: str) -> object:
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, [None, 2])

    nodes = [helper.make_node("Relu", ["x"], ["a"]), helper.make_node("Neg", ["x"], ["b"])]
    graph = helper.make_graph(nodes, "two", [value("x")], [value("a"), value("b")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    return bytes(model.SerializeToString())
