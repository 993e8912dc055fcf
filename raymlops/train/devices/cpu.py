"""The host itself."""

from __future__ import annotations

import shutil

import torch

from raymlops.train.devices.base import Device


class Cpu(Device):
    """Computes at once, in the memory of the process."""

    group_backend = "gloo"

    def __init__(self) -> None:
        self.where = torch.device("cpu")

    @property
    def label(self) -> str:
        return "this CPU"

    def end_step(self) -> None:
        """Nothing is ever put off."""

    def finish(self) -> None:
        """Nothing is ever outstanding."""

    def set_generator_state(self, state: torch.Tensor) -> None:
        torch.set_rng_state(state)

    def why_uncompiled(self, backend: str) -> str | None:
        if backend == "inductor" and not shutil.which("g++"):
            return "it needs g++ on a CPU"
        return None
