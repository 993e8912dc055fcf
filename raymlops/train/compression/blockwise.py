"""8 bits an element, and a scale for each block of them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from raymlops.train.compression.base import to_bytes
from raymlops.train.compression.elementwise import Elementwise

_LARGEST = 127


@dataclass(frozen=True)
class Int8(Elementwise):
    """Whole numbers from -127 to 127, times the block's largest absolute value / 127.

    An outlier costs only its own block precision (T. Dettmers et al., 8-bit Optimizers via
    Block-wise Quantization, 2022; here with even steps). A block that holds something that is not
    finite decodes to NaN.
    """

    block: int = 256

    def __post_init__(self) -> None:
        if self.block < 1:
            raise ValueError(f"block is {self.block}; a block has at least one element")

    def encode(self, vector: Tensor) -> Tensor:
        blocks = self._blocks(vector)
        scales = blocks.abs().amax(dim=1) / _LARGEST
        steps = torch.where(scales == 0, 1.0, scales)
        quantised = (blocks / steps[:, None]).nan_to_num_(0.0).round_().to(torch.int8)
        return to_bytes(scales, quantised.view(-1)[: len(vector)])

    def decode(self, payload: Tensor, size: int) -> Tensor:
        scale_bytes = 4 * -(-size // self.block)
        scales = payload[:scale_bytes].clone().view(torch.float32)
        scales = torch.where(scales.isfinite(), scales, torch.nan)
        blocks = self._blocks(payload[scale_bytes:].view(torch.int8).float())
        return (blocks * scales[:, None]).view(-1)[:size]

    def _blocks(self, vector: Tensor) -> Tensor:
        """[blocks, block], the last one filled up with zeros."""
        return torch.nn.functional.pad(vector, (0, -len(vector) % self.block)).view(-1, self.block)
