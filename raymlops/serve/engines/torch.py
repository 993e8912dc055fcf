"""PyTorch: modules, eager or compiled; TorchScript; torch.export."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

from raymlops.errors import ModelError
from raymlops.models import Artifact, Predictor, Recorded, format_named
from raymlops.models.predictors import Matrix, flat
from raymlops.serve.engines.base import Engine
from raymlops.serve.engines.settings import EngineSettings


class TorchEngine(Engine):
    """torch counts threads a process, not a model: the settings of the last one loaded hold."""

    name = "torch"
    formats = frozenset({"torchscript", "torch_export", "safetensors"})

    def load(
        self, artifact: Artifact, settings: EngineSettings, *, recorded: Recorded
    ) -> Predictor:
        import torch

        if settings.compile and artifact.format != "safetensors":
            raise ModelError(
                f"torch.compile takes modules, the bundle is {artifact.format}, a program "
                "already: set compile to false, or save the module as safetensors"
            )
        device = _device(settings)
        module = format_named(artifact.format).restore(artifact, recorded=recorded)
        torch.set_num_threads(settings.num_threads)
        module = module.to(device)
        return _TorchPredictor(torch.compile(module, dynamic=True) if settings.compile else module)


def _device(settings: EngineSettings) -> str:
    import torch

    has_gpu = torch.cuda.is_available()
    if settings.device == "cuda" and not has_gpu:
        raise ModelError("device is cuda, torch sees no GPU here: set device to cpu")
    return "cuda" if has_gpu and settings.device != "cpu" else "cpu"


class _TorchPredictor:
    """Reads the matrix where it lies, and copies it only to another device."""

    def __init__(self, module: Any) -> None:
        self._module = module
        parameter = next(iter(module.parameters()), None)
        self._device = None if parameter is None else parameter.device

    def __call__(self, matrix: Matrix, /) -> NDArray[Any]:
        import torch

        with torch.inference_mode():
            outputs = self._module(torch.from_numpy(matrix).to(self._device))
        if not isinstance(outputs, torch.Tensor):
            raise ModelError(f"the module gives {type(outputs).__name__}, not one tensor")
        return flat(outputs.cpu().numpy())
