from __future__ import annotations

import torch

from raymlops.train.compression import Memory, RandomK, TopK
from tests.train.compression.vectors import flat


class TestTopK:
    def test_sends_the_largest(self) -> None:
        vector = torch.tensor([0.1, -5.0, 0.2, 3.0, -0.3, 1.0])
        compressor = TopK(ratio=1 / 3)
        found = compressor.decompress(compressor.compress(flat(vector), Memory()), ((6,),))
        assert found.tolist() == [0.0, -5.0, 0.0, 3.0, 0.0, 0.0]


class TestRandomK:
    def test_sends_each_element_as_often_as_any_other(self) -> None:
        compressor, memory = RandomK(ratio=0.3), Memory()
        times = torch.zeros(10)
        for step in range(3000):
            memory.step = step
            payload = compressor.compress(flat(torch.ones(10)), memory)
            times += compressor.decompress(payload, ((10,),))
        assert times.sum() == 9000
        # Stretches of 3, 3 and 4 elements: a third or a quarter of the steps each.
        assert torch.allclose(times[:6] / 3000, torch.tensor(1 / 3), atol=0.03)
        assert torch.allclose(times[6:] / 3000, torch.tensor(1 / 4), atol=0.03)
