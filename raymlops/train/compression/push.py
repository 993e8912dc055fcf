"""Compression on the way to a parameter server: numpy in, bytes out, and back."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from raymlops.train.compression.base import Compressor, Gradient
from raymlops.train.compression.feedback import Feedback

Shape = tuple[int, ...]


class Encoder:
    """One worker's side; what compressing loses of a parameter's gradient goes with its next."""

    def __init__(self, compressor: Compressor) -> None:
        # A compressor's memory is by step, and parameters may be pushed at different ones.
        self._compressor = compressor
        self._feedbacks: dict[str, Feedback] = {}

    def encode(self, name: str, gradient: NDArray[np.float32]) -> bytes:
        """The payload of a parameter's gradient; with its shape, all that the server needs."""
        feedback = self._feedbacks.setdefault(name, Feedback(self._compressor))
        vector = torch.from_numpy(np.ascontiguousarray(gradient)).view(-1)
        payload = feedback.compress(
            Gradient(vector=vector, names=(name,), shapes=(gradient.shape,))
        )
        return payload.numpy().tobytes()


def decode(compressor: Compressor, payload: bytes, shape: Shape) -> NDArray[np.float32]:
    """The server's side: the gradient that a payload stands for.

    Raises:
        ValueError: the payload is not one of this compressor for this shape.
    """
    received = torch.from_numpy(np.frombuffer(payload, np.uint8).copy())
    try:
        vector = compressor.decompress(received, (shape,))
    except (RuntimeError, IndexError) as error:
        raise ValueError(
            f"{len(payload)} bytes are no payload of {compressor} for shape {shape}: {error}"
        ) from error
    found: NDArray[np.float32] = vector.numpy().reshape(shape)
    return found
