from __future__ import annotations

import torch

from raymlops.train.compression import Float16, Gradient, Memory


class TestFloat16:
    def test_keeps_eleven_bits(self, gradients: list[Gradient]) -> None:
        vector = gradients[0].vector
        found = Float16().decompress(Float16().compress(gradients[0], Memory()), ((4810,),))
        assert torch.allclose(found, vector, rtol=2**-11, atol=float(vector.abs().max()) * 2**-28)
