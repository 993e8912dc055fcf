"""ONNX files that name other files, or break ONNX Runtime."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import onnx
import pytest

from raymlops.errors import ModelError
from raymlops.models import (
    Artifact,
    OnnxScorer,
    format_named,
)
from tests.models.fitted import fitted
from tests.models.harmful import nothing


def as_initializer(model: Any) -> Any:
    return model.graph.initializer.add()


def as_sparse_initializer(model: Any) -> Any:
    return model.graph.sparse_initializer.add().values


def as_sparse_indices(model: Any) -> Any:
    return model.graph.sparse_initializer.add().indices


def as_attribute(model: Any) -> Any:
    return model.graph.node[0].attribute.add().t


def as_sparse_attribute(model: Any) -> Any:
    return model.graph.node[0].attribute.add().sparse_tensor.values


def in_a_list_of_sparse_tensors(model: Any) -> Any:
    return model.graph.node[0].attribute.add().sparse_tensors.add().values


def in_a_branch(model: Any) -> Any:
    return model.graph.node[0].attribute.add().g.sparse_initializer.add().values


def in_a_function(model: Any) -> Any:
    return model.functions.add().node.add().attribute.add().t


def in_a_default_of_a_function(model: Any) -> Any:
    return model.functions.add().attribute_proto.add().t


def in_a_training(model: Any) -> Any:
    return model.training_info.add().algorithm.initializer.add()


@pytest.mark.parametrize(
    "place",
    [as_initializer, as_sparse_initializer, as_sparse_indices, as_attribute, as_sparse_attribute,
     in_a_list_of_sparse_tensors, in_a_branch, in_a_function, in_a_default_of_a_function,
     in_a_training],
)  # fmt: skip
def test_onnx_weights_in_other_files_are_refused(place: Callable[[Any], Any]) -> None:
    # ONNX Runtime filled a sparse initializer from any file below the working directory.
    source = fitted("scaled ridge")
    model = onnx.load_model_from_string(
        format_named("onnx").save(source.model, source.rows[:9]).data
    )
    tensor = place(model)
    tensor.name = "stolen"
    tensor.data_type = onnx.TensorProto.FLOAT
    tensor.dims.extend([1])
    tensor.data_location = onnx.TensorProto.EXTERNAL
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", "../../etc/passwd"
    artifact = Artifact(format="onnx", data=model.SerializeToString())
    with pytest.raises(ModelError, match="tensor 'stolen' lies in another file"):
        format_named("onnx").load(artifact, recorded=nothing)


def test_an_onnx_file_that_cannot_be_loaded_prints_nothing(
    capfd: pytest.CaptureFixture[str],
) -> None:
    """ONNX Runtime printed to stdout that it fell back from the CPU to the CPU: what --json
    printed was no JSON."""
    source = fitted("scaled ridge")
    good = format_named("onnx").save(source.model, source.rows[:9]).data
    model = onnx.load_model_from_string(good)
    model.graph.node[0].op_type = "\u00fcber"
    broken = model.SerializeToString().replace("\u00fc".encode(), b"\xad\xad")
    with pytest.raises(ModelError, match="utf-8"):
        OnnxScorer(broken)
    assert capfd.readouterr().out == ""
