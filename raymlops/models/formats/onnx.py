"""ONNX: models of scikit-learn, torch and Keras as graphs of standard operators."""

from __future__ import annotations

import contextlib
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from raymlops.errors import ModelError
from raymlops.models.artifact import Artifact
from raymlops.models.autograph import keep_autograph_in_memory
from raymlops.models.formats.base import Facts, Format, Tensor
from raymlops.models.onnx import PARITY_TOLERANCE, OnnxScorer, export_unchecked
from raymlops.models.predictors import Matrix, kind_of, predictor_of

_DATATYPES = {
    1: "FP32", 2: "UINT8", 3: "INT8", 4: "UINT16", 5: "INT16", 6: "INT32", 7: "INT64",
    8: "BYTES", 9: "BOOL", 10: "FP16", 11: "FP64", 12: "UINT32", 13: "UINT64",
}  # fmt: skip

# What a detector of outliers decides by, beside its label.
_SCORES = "scores"


class Onnx(Format):
    """Comes back as an `OnnxScorer`, whatever it was made from."""

    name = "onnx"
    suffixes = (".onnx",)
    kinds = frozenset({"sklearn", "torch", "keras"})
    runs_code = False
    tolerance = PARITY_TOLERANCE
    packages = ("onnx", "onnxruntime")

    def facts(self, artifact: Artifact) -> Facts:
        model = _parse(artifact.data)
        graph = model.graph
        weights = {tensor.name for tensor in graph.initializer}
        return Facts(
            producer=f"{model.producer_name} {model.producer_version}".strip() or None,
            inputs=tuple(_tensor(value) for value in graph.input if value.name not in weights),
            outputs=tuple(_tensor(value) for value in graph.output),
            opset=next((each.version for each in model.opset_import if not each.domain), None),
            num_parameters=sum(int(np.prod(tensor.dims)) for tensor in graph.initializer) or None,
        )

    def _save(self, model: Any, sample: Matrix) -> Artifact:
        match kind_of(model):
            case "sklearn":
                data = _from_sklearn(model, sample)
            case "keras":
                data = _from_keras(model, sample)
            case _:
                data = export_unchecked(model, sample)
        return Artifact(format=self.name, data=data)

    def _restore(self, artifact: Artifact) -> OnnxScorer:
        _parse(artifact.data)
        return OnnxScorer(artifact.data)


def _parse(data: bytes) -> Any:
    """The graph, which must hold all its weights itself.

    Raises:
        ModelError: it is no ONNX model, or names files outside that ONNX Runtime would read.
    """
    import onnx
    from google.protobuf.message import DecodeError

    try:
        model = onnx.load_model_from_string(data)
    except DecodeError as error:
        raise ModelError(f"not an onnx model that can be loaded: {error}") from error
    if not model.graph.node:
        raise ModelError("not an onnx model that can be loaded: its graph is empty")
    for tensor in _tensors(model):
        if tensor.data_location == onnx.TensorProto.EXTERNAL or tensor.external_data:
            raise ModelError(
                f"onnx: tensor '{tensor.name}' lies in another file; save the model with its "
                "weights inside"
            )
    return model


def _tensors(message: Any) -> Iterator[Any]:
    """All constant tensors, whatever field holds them: ONNX Runtime reads sparse ones from files
    too, and those of functions.

    It looks into no tensor, whose weights protobuf would copy.
    """
    import onnx
    from google.protobuf.message import Message

    if isinstance(message, onnx.TensorProto):
        yield message
        return
    for field, value in message.ListFields():
        if field.message_type is not None:
            for each in (value,) if isinstance(value, Message) else value:
                yield from _tensors(each)


def _tensor(value: Any) -> Tensor:
    kind = value.type.tensor_type
    return Tensor(
        name=value.name,
        datatype=_DATATYPES.get(kind.elem_type, value.type.WhichOneof("value") or "unknown"),
        shape=tuple(
            size.dim_value if size.HasField("dim_value") and size.dim_value > 0 else None
            for size in kind.shape.dim
        ),
    )


def _from_sklearn(model: Any, sample: Matrix) -> bytes:
    try:
        from skl2onnx import get_latest_tested_opset_version, to_onnx
        from skl2onnx.helpers.onnx_helper import select_model_inputs_outputs
    except ImportError as error:
        raise ModelError(
            "scikit-learn to onnx needs skl2onnx: pip install 'raymlops[formats]'"
        ) from error
    options = {id(model): {"zipmap": False}} if hasattr(model, "predict_proba") else None
    # Left alone it takes the newest operators there are, of which it knows not all.
    versions = {"": get_latest_tested_opset_version(), "ai.onnx.ml": 3}
    with _flags_as_numbers():
        graph = to_onnx(model, sample[:1], options=options, target_opset=versions)
    if _SCORES in {output.name for output in graph.graph.output}:
        graph = select_model_inputs_outputs(graph, outputs=[_SCORES])
    data: bytes = graph.SerializeToString()
    return data


@contextlib.contextmanager
def _flags_as_numbers() -> Iterator[None]:
    """Leaves of histogram gradient boosting get a number for where missing values go: skl2onnx
    1.20 writes False, which protobuf 7 refuses."""
    from skl2onnx.common import tree_ensemble

    add_node = tree_ensemble.add_node

    def add_with_number(*node: Any, nodes_missing_value_tracks_true: Any = 0, **facts: Any) -> None:
        flag = int(nodes_missing_value_tracks_true)
        add_node(*node, nodes_missing_value_tracks_true=flag, **facts)

    tree_ensemble.add_node = add_with_number
    try:
        yield
    finally:
        tree_ensemble.add_node = add_node


def _from_keras(model: Any, sample: Matrix) -> bytes:
    keep_autograph_in_memory()
    predictor_of(model)(sample[:1])  # Keras exports no model that was never asked
    with tempfile.TemporaryDirectory(prefix="raymlops-onnx-") as folder:
        path = Path(folder) / "model.onnx"
        with warnings.catch_warnings(), _tensors_as_arrays(model):
            # tf2onnx calls parts of numpy and protobuf that warn of their own deprecation.
            warnings.simplefilter("ignore")
            try:
                signature = _signature(model, sample)
                model.export(path, format="onnx", verbose=False, input_signature=signature)
            except ImportError as error:
                raise ModelError(
                    "Keras to onnx needs tf2onnx: pip install 'raymlops[formats]'"
                ) from error
        data = path.read_bytes()
    _require_operators(data)
    return data


def _signature(model: Any, sample: Matrix) -> Any:
    """The model's input, of the type of the rows it will get; None where that is its own.

    Keras casts them, as the graph does then: ONNX Runtime takes the type of its input alone.
    """
    from keras import InputSpec

    inputs: Any = getattr(model, "inputs", None) or ()
    if len(inputs) != 1 or inputs[0].dtype == sample.dtype:
        return None
    return [InputSpec(dtype=str(sample.dtype), shape=inputs[0].shape)]


def _require_operators(data: bytes) -> None:
    """Raises ModelError where tf2onnx left an operator of TensorFlow in, as it does in a log."""
    import onnx

    names = {node.op_type for node in onnx.load_from_string(data).graph.node if not node.domain}
    if unknown := sorted(name for name in names if not onnx.defs.has(name)):
        raise ModelError(
            f"onnx has no operator for TensorFlow's {', '.join(unknown)}, which this model needs: "
            "keep it as keras, or make it of other layers"
        )


@contextlib.contextmanager
def _tensors_as_arrays(model: Any) -> Iterator[None]:
    """Layers hold arrays where they held tensors, such as the mean of a Normalization: tf2onnx
    makes inputs of tensors, and constants of arrays."""
    from keras import Variable, ops

    held = [
        (layer, name, value)
        for layer in _layers(model)
        for name, value in vars(layer).items()
        if ops.is_tensor(value) and not isinstance(value, Variable)
    ]
    try:
        for layer, name, value in held:
            setattr(layer, name, ops.convert_to_numpy(value))
        yield
    finally:
        for layer, name, value in held:
            setattr(layer, name, value)


def _layers(model: Any) -> Iterator[Any]:
    """All layers, those of models within the model too."""
    for layer in getattr(model, "layers", ()):
        yield layer
        yield from _layers(layer)
