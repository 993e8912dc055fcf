"""A device behind XLA, as a TPU: torch_xla is imported when one is asked for, and not before."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import torch

from raymlops.train.devices.base import Device, missing
from raymlops.train.spec import Precision


class Xla(Device):
    """Writes down what it is asked for, and compiles and runs it when a step ends.

    A form of rows not seen before is compiled anew, as is an epoch's short last batch once. XLA's
    own collectives count devices across processes in an order of their own, which nothing here
    starts workers in; so workers talk about what they have copied to the host.
    """

    group_backend = "gloo"
    wide = torch.float32  # TPUs only emulate float64

    def __init__(self) -> None:
        self._xla = _import("torch_xla")
        self._model = _import("torch_xla.core.xla_model")
        self._runtime = _import("torch_xla.runtime")
        self.where: torch.device = self._xla.device()

    @property
    def sends_from(self) -> torch.device:
        return torch.device("cpu")

    @property
    def label(self) -> str:
        return f"{self._runtime.device_type()} (XLA)"

    def can_compute_in(self, precision: Precision) -> bool:
        return precision in ("fp32", "bf16")  # fp16 is slower there, and no TPU has it

    def end_step(self) -> None:
        self._xla.sync()

    def finish(self) -> None:
        self._model.wait_device_ops()

    def own_memory_bytes(self) -> int | None:
        try:
            told = self._model.get_memory_info(self.where)
        except RuntimeError:  # not every runtime behind XLA counts
            return None
        peak = told.get("peak_bytes_used")
        return None if peak is None else int(peak)

    def generator_state(self) -> torch.Tensor:
        return torch.tensor([self._model.get_rng_state(self.where)], dtype=torch.int64)

    def set_generator_state(self, state: torch.Tensor) -> None:
        self._model.set_rng_state(int(state), self.where)

    def why_uncompiled(self, backend: str) -> str | None:
        return None if backend == "openxla" else "XLA compiles every step itself"

    def peak_flops_per_s(self, precision: Precision) -> float:
        size = 512 if self._runtime.device_type() == "CPU" else 4096
        return self._measured_flops_per_s(precision, size=size, repeats=4)


def _import(name: str) -> Any:
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        raise missing(
            "xla",
            f"has no {error.name}: pip install 'torch_xla[tpu]', of the same release as torch, "
            f"which is {torch.__version__}, or set device to cpu",
        ) from error
