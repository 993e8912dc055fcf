from __future__ import annotations

import math

import torch

from raymlops.train.compression import Int8, Memory
from tests.train.compression.vectors import flat


class TestInt8:
    def test_is_off_by_half_a_step_of_its_block(self) -> None:
        vector = torch.cat([torch.linspace(-1, 1, 256), torch.linspace(-100, 100, 100)])
        found = Int8().decompress(Int8().compress(flat(vector), Memory()), ((356,),))
        assert (found - vector)[:256].abs().max() <= 0.5 / 127 + 1e-6
        assert (found - vector)[256:].abs().max() <= 50 / 127 + 1e-4

    def test_spoils_only_the_block_of_what_is_not_finite(self) -> None:
        vector = torch.ones(600)
        vector[300] = math.inf
        found = Int8().decompress(Int8().compress(flat(vector), Memory()), ((600,),))
        assert found.isnan().nonzero().view(-1).tolist() == list(range(256, 512))
