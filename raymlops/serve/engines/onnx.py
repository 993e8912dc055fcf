"""ONNX Runtime."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

from raymlops.errors import ModelError
from raymlops.models import Artifact, OnnxScorer, Predictor, Recorded, format_named
from raymlops.models.onnx import session_options
from raymlops.models.predictors import Matrix, flat
from raymlops.serve.engines.base import Engine
from raymlops.serve.engines.settings import EngineSettings

_LEVELS = {
    "none": "ORT_DISABLE_ALL", "basic": "ORT_ENABLE_BASIC", "extended": "ORT_ENABLE_EXTENDED",
    "all": "ORT_ENABLE_ALL",
}  # fmt: skip
_CPU, _CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"


class OnnxEngine(Engine):
    """One session for all instances: its runs share the weights, not their scratch memory."""

    name = "onnx"
    formats = frozenset({"onnx"})

    def load(
        self, artifact: Artifact, settings: EngineSettings, *, recorded: Recorded
    ) -> Predictor:
        import onnxruntime

        format_named(artifact.format).describe(artifact)  # refuses what names files outside
        options = session_options(num_threads=settings.num_threads)
        level = _LEVELS[settings.graph_level]
        options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, level)
        if len(settings.cpus) > 1 and settings.num_instances == 1:
            # The calling thread is the first of them; ONNX Runtime counts processors from 1.
            others = ";".join(str(cpu + 1) for cpu in settings.cpus[1:])
            options.add_session_config_entry("session.intra_op_thread_affinities", others)
        providers = _providers(settings, onnxruntime.get_available_providers())
        scorer = OnnxScorer(artifact.data, options=options, providers=providers)
        return _Bound(scorer, providers[0]) if settings.io_binding else scorer


def _providers(settings: EngineSettings, available: list[str]) -> list[str]:
    """Where the graph runs, best first."""
    if settings.device == "cuda" and _CUDA not in available:
        raise ModelError(
            f"device is cuda, ONNX Runtime here has {', '.join(available)}: install "
            "onnxruntime-gpu, or set device to cpu"
        )
    return [_CUDA, _CPU] if settings.device != "cpu" and _CUDA in available else [_CPU]


class _Bound:
    """A scorer whose output is bound to the device, and copied once."""

    def __init__(self, scorer: OnnxScorer, provider: str) -> None:
        self._scorer = scorer
        self._device = "cuda" if provider == _CUDA else "cpu"

    def __call__(self, matrix: Matrix, /) -> NDArray[Any]:
        binding = self._scorer.session.io_binding()
        binding.bind_cpu_input(self._scorer.input, matrix)
        binding.bind_output(self._scorer.outputs[0], self._device)
        self._scorer.session.run_with_iobinding(binding)
        return flat(binding.copy_outputs_to_cpu()[0])
