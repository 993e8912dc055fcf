"""Averages of several workers in one process: the rounds of all, answered side by side."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import Any, TypeVar

import torch

from raymlops.train.compression.base import Gather, Scatter, Sum

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
