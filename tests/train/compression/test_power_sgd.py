from __future__ import annotations

import torch

from raymlops.train.compression import Gradient, Memory, PowerSGD
from tests.train.compression.lockstep import averages


class TestPowerSGD:
    def test_finds_a_matrix_of_its_rank(self) -> None:
        torch.manual_seed(0)
        matrix = torch.randn(40, 2) @ torch.randn(2, 30)
        gradient = Gradient(vector=matrix.view(-1), names=("w",), shapes=((40, 30),))
        payload = PowerSGD(rank=2).compress(gradient, Memory())
        found = PowerSGD(rank=2).decompress(payload, ((40, 30),))
        assert torch.allclose(found.view(40, 30), matrix, atol=1e-4)

    def test_comes_near_the_best_of_its_rank(self, gradients: list[Gradient]) -> None:
        matrix = gradients[0].parts(gradients[0].vector)[0]
        gradient = Gradient(vector=matrix.reshape(-1), names=("w",), shapes=((64, 64),))
        memory, compressor = Memory(), PowerSGD(rank=2)
        for _ in range(20):
            payload = compressor.compress(gradient, memory)
        lost = (compressor.decompress(payload, ((64, 64),)).view(64, 64) - matrix).norm()
        best = torch.linalg.svdvals(matrix)[2:].norm()
        assert lost <= 1.001 * best

    def test_sends_biases_and_small_matrices_as_they_are(self) -> None:
        vector = torch.linspace(-1, 1, 7 + 3 * 4)
        gradient = Gradient(vector=vector, names=("bias", "small"), shapes=((7,), (3, 4)))
        mean, *_ = averages(PowerSGD(rank=2), [gradient, gradient])
        assert torch.equal(mean, vector)

    def test_takes_filters_as_matrices(self) -> None:
        torch.manual_seed(0)
        filters = (torch.randn(16, 1) @ torch.randn(1, 72)).view(16, 8, 3, 3)
        gradient = Gradient(vector=filters.view(-1), names=("w",), shapes=((16, 8, 3, 3),))
        mean, *_ = averages(PowerSGD(rank=1), [gradient, gradient])
        assert torch.allclose(mean, filters.view(-1), atol=1e-5)
