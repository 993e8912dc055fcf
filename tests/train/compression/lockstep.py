"""Averages of several workers in one process: the rounds of all, answered side by side."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor

from raymlops.train.compression import Compressor, Gradient, Memory, Seat
from raymlops.train.compression.base import Gather, Rounds, Scatter, Sum

Result = TypeVar("Result")


def together(workers: Sequence[Generator[Any, Any, Result]]) -> list[Result]:
    """What each worker's rounds end in; all must ask for the same kind of round each time."""
    answers: list[Any] = [None] * len(workers)
    results: list[Result] = []
    while True:
        requests = []
        for worker, answer in zip(workers, answers, strict=True):
            try:
                requests.append(worker.send(answer))
            except StopIteration as ended:
                results.append(ended.value)
        if results:
            assert len(results) == len(workers), "some workers ended before others"
            return results
        answers = _answers(requests)


def _answers(requests: list[Any]) -> list[Any]:
    (kind,) = {type(request) for request in requests}
    if kind is Sum:
        total = torch.stack([request.tensor for request in requests]).sum(dim=0)
        return [total.clone() for _ in requests]
    if kind is Gather:
        assert len({len(request.payload) for request in requests}) == 1
        return [[request.payload for request in requests] for _ in requests]
    assert kind is Scatter
    return [[request.payloads[rank] for request in requests] for rank in range(len(requests))]


def averaged(
    workers: Sequence[Callable[[Gradient, Seat], Generator[Any, Any, Result]]],
    gradients: Sequence[Gradient],
) -> list[Result]:
    """What each worker's average of its gradient ends in."""
    return together(
        [
            average(gradient, Seat(rank=rank, world_size=len(workers)))
            for rank, (average, gradient) in enumerate(zip(workers, gradients, strict=True))
        ]
    )


def averages(compressor: Compressor, gradients: Sequence[Gradient]) -> list[Tensor]:
    """The means and what each worker put into them, in one average without feedback."""

    def average(gradient: Gradient, seat: Seat) -> Rounds:
        return compressor.average(gradient, Memory(), seat)

    done = averaged([average] * len(gradients), gradients)
    for each in done:
        assert torch.equal(each.mean, done[0].mean)  # bit for bit, or workers drift apart
    return [done[0].mean, *(each.own for each in done)]
