"""safetensors: weights as plain tensors, and the architecture declared beside them as JSON.

The architecture is a list of layers out of a fixed table, with their sizes. Nothing in it names
code: what the table does not hold cannot be built, and is refused when it is written.
"""

from __future__ import annotations

import json
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict

from raymlops.errors import ModelError
from raymlops.models.artifact import Artifact
from raymlops.models.formats.base import Facts, Format, Tensor
from raymlops.models.predictors import Matrix

_VERSION: Literal["raymlops.layers/1"] = "raymlops.layers/1"

# Layers of torch.nn and the arguments that make them; each is an attribute of the layer, too.
_CONVOLUTION = (
    "in_channels", "out_channels", "kernel_size", "stride", "padding", "dilation", "groups",
    "bias", "padding_mode",
)  # fmt: skip
_BATCH_NORM = ("num_features", "eps", "momentum", "affine", "track_running_stats")
_LAYERS: dict[str, tuple[str, ...]] = {
    "Linear": ("in_features", "out_features", "bias"),
    "Conv1d": _CONVOLUTION,
    "Conv2d": _CONVOLUTION,
    "BatchNorm1d": _BATCH_NORM,
    "BatchNorm2d": _BATCH_NORM,
    "LayerNorm": ("normalized_shape", "eps", "elementwise_affine", "bias"),
    "MaxPool1d": ("kernel_size", "stride", "padding", "dilation", "ceil_mode"),
    "MaxPool2d": ("kernel_size", "stride", "padding", "dilation", "ceil_mode"),
    "AvgPool2d": ("kernel_size", "stride", "padding", "ceil_mode"),
    "AdaptiveAvgPool2d": ("output_size",),
    "Flatten": ("start_dim", "end_dim"),
    "Unflatten": ("dim", "unflattened_size"),
    "Dropout": ("p",),
    "Identity": (),
    "ReLU": (),
    "LeakyReLU": ("negative_slope",),
    "ELU": ("alpha",),
    "GELU": ("approximate",),
    "SiLU": (),
    "Tanh": (),
    "Sigmoid": (),
    "Softplus": ("beta", "threshold"),
    "Softmax": ("dim",),
    "LogSoftmax": ("dim",),
}


class _Layer(BaseModel):
    """One entry; `layers` are those of a nested Sequential."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    type: str
    arguments: dict[str, bool | int | float | str | list[int] | None] = {}
    layers: list[_Layer] = []


class _Architecture(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    version: Literal["raymlops.layers/1"]
    layers: list[_Layer]


class Safetensors(Format):
    """`torch.nn.Sequential` of known layers, nested as deep as you like."""

    name = "safetensors"
    suffixes = (".safetensors",)
    kinds = frozenset({"torch"})
    runs_code = False
    tolerance = 0.0
    packages = ("torch", "safetensors")
    extra = "formats"
    architecture_apart = True

    def facts(self, artifact: Artifact) -> Facts:
        header = _header(artifact.data)
        architecture = _read(artifact)
        leaves = _leaves(architecture.layers)
        return Facts(
            producer=architecture.version,
            inputs=_sized("input", leaves[0].arguments, "in_features"),
            outputs=_sized("output", leaves[-1].arguments, "out_features"),
            num_parameters=sum(
                int(np.prod(entry["shape"]))
                for name, entry in header.items()
                if name.rpartition(".")[2] in {"weight", "bias"}
            ),
        )

    def _save(self, model: Any, sample: Matrix) -> Artifact:
        import torch
        from safetensors.torch import save
        from torch import nn

        model = _numbered(model) if type(model) is nn.Sequential else nn.Sequential(model)
        layer = _describe(model.eval(), type(model).__name__)
        architecture = _Architecture(version=_VERSION, layers=layer.layers)
        # Cloned, since safetensors refuses tensors that share memory, as a layer's that occurs
        # twice do.
        weights = {
            name: value.clone(memory_format=torch.contiguous_format)
            for name, value in model.state_dict().items()
        }
        return Artifact(
            format=self.name,
            data=save(weights),
            architecture=architecture.model_dump_json(indent=1, exclude_defaults=True).encode(),
        )

    def _restore(self, artifact: Artifact) -> Any:
        import torch
        from safetensors.torch import load

        weights = load(artifact.data)
        # On the meta device nothing is allocated: sizes that lie cost no memory.
        with torch.device("meta"):
            model = torch.nn.Sequential(*map(_build, _read(artifact).layers))
        model.load_state_dict(weights, strict=True, assign=True)
        return model.eval()


def _numbered(module: Any) -> Any:
    """The same layers under their positions, as they are built again: one made of an OrderedDict
    has names."""
    from torch import nn

    return nn.Sequential(
        *(_numbered(each) if type(each) is nn.Sequential else each for each in module)
    )


def _describe(module: Any, where: str) -> _Layer:
    from torch import nn

    kind = type(module)
    if kind is nn.Sequential:
        # Not its named_children(), which leave out what came before: one ReLU may stand twice.
        layers = [_describe(layer, f"{where}.{index}") for index, layer in enumerate(module)]
        return _Layer(type="Sequential", layers=layers)
    if kind.__name__ not in _LAYERS or kind is not getattr(nn, kind.__name__, None):
        raise ModelError(
            f"safetensors: {where} is a {kind.__module__}.{kind.__qualname__}; only "
            f"torch.nn.Sequential of {', '.join(_LAYERS)} can be declared without code. Use onnx "
            "or torch_export for other modules"
        )
    arguments = {name: _plain(getattr(module, name)) for name in _LAYERS[kind.__name__]}
    if "bias" in arguments:  # the attribute is the tensor, or None
        arguments["bias"] = module.bias is not None
    return _Layer(type=kind.__name__, arguments=arguments)


def _build(layer: _Layer) -> Any:
    from torch import nn

    if layer.type == "Sequential":
        return nn.Sequential(*map(_build, layer.layers))
    if layer.type not in _LAYERS:
        raise ModelError(f"safetensors: '{layer.type}' is no layer that can be built; refused")
    if unknown := sorted(layer.arguments.keys() - {*_LAYERS[layer.type]}):
        raise ModelError(f"safetensors: {layer.type} takes no {', '.join(unknown)}; refused")
    return getattr(nn, layer.type)(**layer.arguments)


def _read(artifact: Artifact) -> _Architecture:
    if artifact.architecture is None:
        raise ModelError("safetensors: the architecture is missing; it lies beside the weights")
    architecture = _Architecture.model_validate_json(artifact.architecture)
    if not architecture.layers:
        raise ModelError("safetensors: the architecture declares no layers")
    return architecture


def _leaves(layers: list[_Layer]) -> list[_Layer]:
    return [
        leaf for layer in layers for leaf in (_leaves(layer.layers) if layer.layers else [layer])
    ]


def _plain(value: Any) -> Any:
    if hasattr(value, "shape"):
        return None
    return list(value) if isinstance(value, tuple) else value


def _sized(name: str, arguments: dict[str, Any], size: str) -> tuple[Tensor, ...]:
    shape = (None, arguments[size]) if size in arguments else (None,)
    return (Tensor(name=name, datatype="FP32", shape=shape),)


def _header(data: bytes) -> dict[str, Any]:
    length = int.from_bytes(data[:8], "little")
    if not 2 <= length <= len(data) - 8:
        raise ModelError(f"safetensors: its header would have {length:,} of {len(data):,} bytes")
    header: dict[str, Any] = json.loads(data[8 : 8 + length])
    header.pop("__metadata__", None)
    return header
