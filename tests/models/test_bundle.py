from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from raymlops.data import Columns, take
from raymlops.errors import IntegrityError, ModelError, ParityError, SignatureError, StorageError
from raymlops.models import PROBABILITY, Bundle, OnnxScorer, export
from raymlops.storage import Store
from raymlops.train.network import Perceptron


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
        "numpy", "onnxruntime", "scipy",
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
    with pytest.raises(ParityError, match=r"row \d+ of 4: ONNX gives logit .* the module"):
        export(Moody(), np.ones((4, 3), dtype=np.float32))


def test_bytes_that_are_no_model_are_refused() -> None:
    with pytest.raises(ModelError, match="not a model ONNX Runtime can load"):
        OnnxScorer(b"not a model")
