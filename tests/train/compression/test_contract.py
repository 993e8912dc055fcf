"""What every compressor keeps, with real gradients: those of a small network on digits."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from raymlops.train.compression import (
    BFloat16,
    Compressor,
    Encoder,
    Feedback,
    Float16,
    Gradient,
    Int8,
    Memory,
    PowerSGD,
    RandomK,
    TopK,
    decode,
)
from tests.train.compression.lockstep import averaged, averages
from tests.train.compression.vectors import flat

COMPRESSORS: dict[str, Compressor] = {
    "fp16": Float16(),
    "bf16": BFloat16(),
    "int8": Int8(),
    "top-k": TopK(ratio=0.05),
    "random-k": RandomK(ratio=0.05, seed=3),
    "powersgd": PowerSGD(rank=2),
}
# Bytes of one payload of the network's 4,810 gradients, 19,240 bytes as they are.
PAYLOAD_BYTES = {
    "fp16": 9_624,  # 2 each, and the exponent
    "bf16": 9_620,
    "int8": 4_886,  # 1 each, and 4 for each of 19 blocks
    "top-k": 1_920,  # 8 for each of 240
    "random-k": 968,  # 4 for each of 240, and the step
    "powersgd": 1_912,  # two ranks of 64 + 64 and 64 + 10, and 74 biases
}


@pytest.fixture(params=COMPRESSORS)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def compressor(name: str) -> Compressor:
    return COMPRESSORS[name]


class TestEveryCompressor:
    def test_says_how_many_bytes_it_takes(
        self, compressor: Compressor, name: str, gradients: list[Gradient]
    ) -> None:
        payload = compressor.compress(gradients[0], Memory())
        assert payload.dtype == torch.uint8
        assert payload.numel() == PAYLOAD_BYTES[name]

    def test_loses_less_than_it_is_given(
        self, compressor: Compressor, gradients: list[Gradient]
    ) -> None:
        # What makes error feedback converge: compressing is a contraction.
        gradient = gradients[0]
        found = compressor.decompress(compressor.compress(gradient, Memory()), gradient.shapes)
        assert (gradient.vector - found).norm() < 0.99 * gradient.vector.norm()

    def test_leaves_the_gradient_as_it_was(
        self, compressor: Compressor, gradients: list[Gradient]
    ) -> None:
        before = [gradient.vector.clone() for gradient in gradients]
        averages(compressor, gradients)
        Feedback(compressor).compress(gradients[0])
        for gradient, vector in zip(gradients, before, strict=True):
            assert torch.equal(gradient.vector, vector)

    @pytest.mark.parametrize("num_workers", [1, 2, 3, 6])
    def test_averages_what_the_workers_put_in(
        self, compressor: Compressor, gradients: list[Gradient], num_workers: int
    ) -> None:
        mean, *own = averages(compressor, gradients[:num_workers])
        assert torch.allclose(torch.stack(own).mean(dim=0), mean, atol=1e-7)

    @pytest.mark.parametrize("num_workers", [1, 3])
    def test_loses_nothing_for_ever(
        self, compressor: Compressor, gradients: list[Gradient], num_workers: int
    ) -> None:
        """What was applied and what is still held is all that there was, at every step."""
        feedbacks = [Feedback(compressor) for _ in range(num_workers)]
        applied, given = torch.zeros(4810), torch.zeros(4810)
        for step in range(8):
            some = [gradients[(step + worker) % 6] for worker in range(num_workers)]
            means = averaged([feedback.average for feedback in feedbacks], some)
            applied += means[0]
            given += torch.stack([gradient.vector for gradient in some]).mean(dim=0)
        held = [
            torch.cat([each.view(-1) for each in feedback.state_dict()["residuals"].values()])
            for feedback in feedbacks
        ]
        assert torch.allclose(applied + torch.stack(held).mean(dim=0), given, atol=1e-5)

    def test_sends_a_constant_gradient_in_the_end(self, compressor: Compressor) -> None:
        """No element waits for ever: each has had at least half of its gradient."""
        gradient = Gradient(
            vector=torch.full((1280,), 0.3), names=("a", "b"), shapes=((32, 32), (256,))
        )
        feedback = Feedback(compressor)
        sent = torch.zeros(1280)
        for _ in range(400):
            payload = feedback.compress(gradient)
            sent += compressor.decompress(payload, gradient.shapes)
        assert torch.allclose(sent / 400, gradient.vector, atol=0.15)

    @pytest.mark.parametrize("size", [0, 1, 3, 255, 256, 257])
    def test_takes_vectors_of_any_size(self, compressor: Compressor, size: int) -> None:
        vector = torch.linspace(-1, 1, size) if size else torch.empty(0)
        mean, *_ = averages(compressor, [flat(vector), flat(2 * vector)])
        assert mean.shape == (size,)
        found = compressor.decompress(compressor.compress(flat(vector), Memory()), ((size,),))
        assert found.shape == (size,)

    def test_gives_zeros_for_zeros(self, compressor: Compressor, gradients: list[Gradient]) -> None:
        nothing = replace(gradients[0], vector=torch.zeros(4810))
        mean, *_ = averages(compressor, [nothing, nothing])
        assert torch.equal(mean, torch.zeros(4810))

    def test_recovers_after_zeros(self, compressor: Compressor, gradients: list[Gradient]) -> None:
        feedback = Feedback(compressor)
        feedback.compress(replace(gradients[0], vector=torch.zeros(4810)))
        payload = feedback.compress(gradients[0])
        assert compressor.decompress(payload, gradients[0].shapes).norm() > 0

    @pytest.mark.parametrize("scale", [1e-30, 1e-8, 1e8, 1e30])
    def test_takes_gradients_of_any_scale(
        self, compressor: Compressor, gradients: list[Gradient], scale: float
    ) -> None:
        mean, *_ = averages(compressor, gradients[:2])
        scaled = [replace(each, vector=each.vector * scale) for each in gradients[:2]]
        found, *_ = averages(compressor, scaled)
        assert found.isfinite().all()
        assert (found / scale - mean).norm() < 0.02 * mean.norm()

    @pytest.mark.parametrize("scale", [1e-30, 1e-20, 1e20, 1e34])
    def test_takes_many_gradients_of_any_scale(
        self, compressor: Compressor, gradients: list[Gradient], scale: float
    ) -> None:
        """From the second on PowerSGD made no numbers of large ones, and all but zeros of small."""
        feedback, other = Feedback(compressor), Feedback(compressor)
        for gradient in gradients[:4]:
            payload = feedback.compress(replace(gradient, vector=gradient.vector * scale))
            found = compressor.decompress(payload, gradient.shapes)
            expected = compressor.decompress(other.compress(gradient), gradient.shapes)
            assert found.isfinite().all()
            assert (found / scale - expected).norm() < 0.02 * expected.norm()

    @pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
    @pytest.mark.parametrize("place", [0, 17, 4100, 4809])
    def test_lets_no_other_than_a_finite_result_pass_for_one(
        self, compressor: Compressor, gradients: list[Gradient], bad: float, place: int
    ) -> None:
        """Seen on all workers, by a loss scaler's sum; and nothing of it in the residuals."""
        feedbacks = [Feedback(compressor) for _ in range(3)]

        def average(some: Sequence[Gradient]) -> Tensor:
            return averaged([feedback.average for feedback in feedbacks], some)[0]

        average(gradients[:3])
        before = [feedback.state_dict()["residuals"] for feedback in feedbacks]
        vector = gradients[1].vector.clone()
        vector[place] = bad
        found = average([gradients[0], replace(gradients[1], vector=vector), gradients[2]])
        assert not found.isfinite().all()
        for feedback, residuals in zip(feedbacks, before, strict=True):
            for name, residual in feedback.state_dict()["residuals"].items():
                assert torch.equal(residual, residuals[name])
        assert average(gradients[:3]).isfinite().all()

        payload = Feedback(compressor).compress(replace(gradients[1], vector=vector))
        assert not compressor.decompress(payload, gradients[1].shapes).isfinite().all()

    def test_goes_on_from_a_checkpoint_as_if_nothing_had_been(
        self, compressor: Compressor, gradients: list[Gradient]
    ) -> None:
        feedback, other = Feedback(compressor), Feedback(compressor)
        for gradient in gradients[:3]:
            feedback.compress(gradient)
        other.load_state_dict(feedback.state_dict())
        for gradient in gradients[3:]:
            assert torch.equal(feedback.compress(gradient), other.compress(gradient))

    def test_carries_a_push_to_a_server_in_bytes(
        self, compressor: Compressor, gradients: list[Gradient]
    ) -> None:
        encoder, feedback = Encoder(compressor), Feedback(compressor)
        for gradient in gradients[:3]:
            part = gradient.parts(gradient.vector)[0]
            payload = encoder.encode("0.weight", part.numpy())
            alone = Gradient(
                vector=part.reshape(-1).clone(), names=("0.weight",), shapes=((64, 64),)
            )
            expected = feedback.compress(alone)
            assert payload == expected.numpy().tobytes()
            found = decode(compressor, payload, (64, 64))
            assert found.shape == (64, 64)
            np.testing.assert_array_equal(
                found.reshape(-1), compressor.decompress(expected, ((64, 64),)).numpy()
            )

    def test_refuses_bytes_that_are_none_of_its_own(self, compressor: Compressor) -> None:
        with pytest.raises(ValueError, match=r"3 bytes are no payload of .* for shape \(64, 64\)"):
            decode(compressor, b"abc", (64, 64))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: TopK(ratio=0.0), r"ratio is 0.0, not within \(0, 1\]"),
        (lambda: RandomK(ratio=1.5), "ratio is 1.5, not within"),
        (lambda: PowerSGD(rank=0), "rank is 0; it is at least 1"),
        (lambda: Int8(block=0), "block is 0; a block has at least one element"),
        (
            lambda: Gradient(vector=torch.ones(3), names=("a",), shapes=((2, 2),)),
            "the vector has 3 elements, its 1 parameters",
        ),
        (
            lambda: Gradient(vector=torch.ones(4).half(), names=("a",), shapes=((2, 2),)),
            "a gradient is a flat float32 vector, not torch.float16",
        ),
    ],
)
def test_what_cannot_be_is_refused(make: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()  # type: ignore[operator]
