"""What every compressor keeps, with real gradients: those of a small network on digits."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn

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
    Seat,
    TopK,
    decode,
)
from tests.train.compression.lockstep import together

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


@pytest.fixture(scope="module")
def gradients() -> list[Gradient]:
    """Those of six workers, on 100 digits each."""
    images, labels = load_digits(return_X_y=True)
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
    found = []
    for worker in range(6):
        rows = slice(100 * worker, 100 * worker + 100)
        network.zero_grad()
        logits = network(torch.tensor(images[rows], dtype=torch.float32) / 16)
        torch.autograd.backward(nn.functional.cross_entropy(logits, torch.tensor(labels[rows])))
        named = dict(network.named_parameters())
        found.append(
            Gradient(
                vector=torch.cat([each.grad.view(-1) for each in named.values()]),
                names=tuple(named),
                shapes=tuple(tuple(each.shape) for each in named.values()),
            )
        )
    return found


def changed(gradient: Gradient, vector: Tensor) -> Gradient:
    return replace(gradient, vector=vector)


def flat(vector: Tensor) -> Gradient:
    return Gradient(vector=vector, names=("weight",), shapes=((len(vector),),))


def averages(compressor: Compressor, gradients: Sequence[Gradient]) -> list[Tensor]:
    """The means and what each worker put into them, in one average without feedback."""
    seats = [Seat(rank=rank, world_size=len(gradients)) for rank in range(len(gradients))]
    done = together(
        [
            compressor.average(gradient, Memory(), seat)
            for gradient, seat in zip(gradients, seats, strict=True)
        ]
    )
    for each in done:
        assert torch.equal(each.mean, done[0].mean)  # bit for bit, or workers drift apart
    return [done[0].mean, *(each.own for each in done)]


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
            seats = [Seat(rank=rank, world_size=num_workers) for rank in range(num_workers)]
            means = together(
                [
                    feedback.average(gradient, seat)
                    for feedback, gradient, seat in zip(feedbacks, some, seats, strict=True)
                ]
            )
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
        nothing = changed(gradients[0], torch.zeros(4810))
        mean, *_ = averages(compressor, [nothing, nothing])
        assert torch.equal(mean, torch.zeros(4810))

    def test_recovers_after_zeros(self, compressor: Compressor, gradients: list[Gradient]) -> None:
        feedback = Feedback(compressor)
        feedback.compress(changed(gradients[0], torch.zeros(4810)))
        payload = feedback.compress(gradients[0])
        assert compressor.decompress(payload, gradients[0].shapes).norm() > 0

    @pytest.mark.parametrize("scale", [1e-30, 1e-8, 1e8, 1e30])
    def test_takes_gradients_of_any_scale(
        self, compressor: Compressor, gradients: list[Gradient], scale: float
    ) -> None:
        mean, *_ = averages(compressor, gradients[:2])
        scaled = [changed(each, each.vector * scale) for each in gradients[:2]]
        found, *_ = averages(compressor, scaled)
        assert found.isfinite().all()
        assert (found / scale - mean).norm() < 0.02 * mean.norm()

    @pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
    @pytest.mark.parametrize("place", [0, 17, 4100, 4809])
    def test_lets_no_other_than_a_finite_result_pass_for_one(
        self, compressor: Compressor, gradients: list[Gradient], bad: float, place: int
    ) -> None:
        """Seen on all workers, by a loss scaler's sum; and nothing of it in the residuals."""
        feedbacks = [Feedback(compressor) for _ in range(3)]

        def average(some: Sequence[Gradient]) -> Tensor:
            seats = [Seat(rank=rank, world_size=3) for rank in range(3)]
            return together(
                [f.average(g, s) for f, g, s in zip(feedbacks, some, seats, strict=True)]
            )[0]

        average(gradients[:3])
        before = [feedback.state_dict()["residuals"] for feedback in feedbacks]
        vector = gradients[1].vector.clone()
        vector[place] = bad
        found = average([gradients[0], changed(gradients[1], vector), gradients[2]])
        assert not found.isfinite().all()
        for feedback, residuals in zip(feedbacks, before, strict=True):
            for name, residual in feedback.state_dict()["residuals"].items():
                assert torch.equal(residual, residuals[name])
        assert average(gradients[:3]).isfinite().all()

        payload = Feedback(compressor).compress(changed(gradients[1], vector))
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


class TestFloat16:
    def test_keeps_eleven_bits(self, gradients: list[Gradient]) -> None:
        vector = gradients[0].vector
        found = Float16().decompress(Float16().compress(gradients[0], Memory()), ((4810,),))
        assert torch.allclose(found, vector, rtol=2**-11, atol=float(vector.abs().max()) * 2**-28)


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


def test_residuals_follow_the_scale_of_a_loss_scaler(gradients: list[Gradient]) -> None:
    scaled, plain = Feedback(TopK()), Feedback(TopK())
    plain.compress(gradients[0])
    scaled.compress(changed(gradients[0], gradients[0].vector * 1024))
    scaled.rescale(0.5)
    found = scaled.compress(changed(gradients[1], gradients[1].vector * 512))
    expected = plain.compress(gradients[1])
    shapes = gradients[0].shapes
    assert torch.equal(TopK().decompress(found, shapes), 512 * TopK().decompress(expected, shapes))


def test_a_skipped_step_leaves_no_residuals(gradients: list[Gradient]) -> None:
    """Whatever it was skipped for: what was averaged may be finite in all buckets."""
    feedback = Feedback(TopK())
    averaged = together([feedback.average(gradients[0], Seat())])
    feedback.settle(finite=False)
    assert feedback.state_dict()["residuals"] == {}
    again = together([feedback.average(gradients[0], Seat())])
    assert torch.equal(again[0], averaged[0])
    feedback.settle(finite=True)
    assert feedback.state_dict()["residuals"].keys() == set(gradients[0].names)


def test_what_overflows_in_one_bucket_leaves_nothing_of_the_others(
    gradients: list[Gradient],
) -> None:
    feedback = Feedback(TopK())
    broken = Gradient(vector=torch.full((3,), torch.inf), names=("last",), shapes=((3,),))
    for bucket in (gradients[0], broken):
        together([feedback.average(bucket, Seat())])
    assert feedback.state_dict()["residuals"] == {}


def test_residuals_stay_with_their_parameters_when_buckets_change(
    gradients: list[Gradient],
) -> None:
    """DDP makes its buckets anew, in another order, after the first step."""
    gradient = gradients[0]
    parts = gradient.parts(gradient.vector)
    feedback = Feedback(TopK())
    feedback.compress(gradient)
    residuals = feedback.state_dict()["residuals"]
    turned = Gradient(
        vector=torch.cat([part.reshape(-1) for part in reversed(parts)]),
        names=gradient.names[::-1],
        shapes=gradient.shapes[::-1],
    )
    payload = feedback.compress(changed(turned, torch.zeros(4810)))
    sent = turned.parts(TopK().decompress(payload, turned.shapes))
    for name, part in zip(turned.names, sent, strict=True):
        held = feedback.state_dict()["residuals"][name]
        assert torch.allclose(part + held, residuals[name])


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
