"""Residuals: what was not sent, by parameter."""

from __future__ import annotations

from dataclasses import replace

import torch

from raymlops.train.compression import Feedback, Gradient, Seat, TopK
from tests.train.compression.lockstep import together


def test_residuals_follow_the_scale_of_a_loss_scaler(gradients: list[Gradient]) -> None:
    scaled, plain = Feedback(TopK()), Feedback(TopK())
    plain.compress(gradients[0])
    scaled.compress(replace(gradients[0], vector=gradients[0].vector * 1024))
    scaled.rescale(0.5)
    found = scaled.compress(replace(gradients[1], vector=gradients[1].vector * 512))
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
    payload = feedback.compress(replace(turned, vector=torch.zeros(4810)))
    sent = turned.parts(TopK().decompress(payload, turned.shapes))
    for name, part in zip(turned.names, sent, strict=True):
        held = feedback.state_dict()["residuals"][name]
        assert torch.allclose(part + held, residuals[name])
