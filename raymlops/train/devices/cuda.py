"""A GPU of NVIDIA, or of AMD by torch's build for ROCm."""

from __future__ import annotations

import logging

import torch

from raymlops.train.devices.base import Device, missing
from raymlops.train.devices.peaks import known_flops_per_s
from raymlops.train.replay import Recorder
from raymlops.train.replay.cuda import CudaRecorder
from raymlops.train.spec import Precision

_logger = logging.getLogger(__name__)


class Cuda(Device):
    """The current GPU of this process; Ray gives each worker one."""

    group_backend = "nccl"

    def __init__(self) -> None:
        if not torch.cuda.is_available():
            built = f"for CUDA {torch.version.cuda}" if torch.version.cuda else "without CUDA"
            raise missing(
                "cuda",
                f"has no GPU that torch {torch.__version__} sees, which was built {built}: install "
                "a build for the GPU's driver, or set device to cpu",
            )
        self.where = torch.device("cuda", torch.cuda.current_device())

    @property
    def label(self) -> str:
        return torch.cuda.get_device_name(self.where)

    def can_compute_in(self, precision: Precision) -> bool:
        if precision == "bf16":
            return bool(torch.cuda.is_bf16_supported(including_emulation=False))
        return super().can_compute_in(precision)

    def end_step(self) -> None:
        """It computes as soon as it can."""

    def finish(self) -> None:
        torch.cuda.synchronize(self.where)

    def own_memory_bytes(self) -> int:
        return torch.cuda.max_memory_allocated(self.where)

    def generator_state(self) -> torch.Tensor:
        return torch.cuda.get_rng_state(self.where)

    def set_generator_state(self, state: torch.Tensor) -> None:
        torch.cuda.set_rng_state(state, self.where)

    def recorder(self) -> Recorder:
        return CudaRecorder()

    def peak_flops_per_s(self, precision: Precision) -> float:
        """The vendor's figure, which MFU is told by elsewhere, or a measured one for others."""
        known = known_flops_per_s(self.label, precision)
        if known is not None and not (precision == "fp32" and _may_round_fp32()):
            return known
        measured = self._measured_flops_per_s(precision, size=4096, repeats=8)
        _logger.info(
            "MFU is told by %.3g operations a second in %s, as measured on %s",
            measured,
            precision,
            self.label,
        )
        return measured


def _may_round_fp32() -> bool:
    """Whether products of fp32 go through tensor cores, as TF32: then they are quicker."""
    return torch.get_float32_matmul_precision() != "highest"
