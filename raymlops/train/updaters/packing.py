"""One worker's gradients in fewer bytes, and what it has not sent of them yet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from raymlops.train.compression import Compressor, Feedback, Gradient
from raymlops.train.server.partition import Piece
from raymlops.train.server.payload import Part, Payload


class Packing:
    """Compresses each shard's pieces of the parameters, with error feedback.

    What is not sent is told, and taken, by whole parameters of these `shapes`: a training that
    goes on with another number of shards, or without a server, has all of it.
    """

    def __init__(self, compressor: Compressor, shapes: Mapping[str, tuple[int, ...]]) -> None:
        self._compressor = compressor
        self._shapes = shapes
        self._feedbacks: dict[Piece, Feedback] = {}
        self._restored: Mapping[str, torch.Tensor] = {}
        self._step = 0
        self.sent_bytes = 0

    def pack(self, flat: NDArray[Any], start: int, pieces: Sequence[Piece]) -> Payload:
        """The payload of a shard's range `flat`, which begins at place `start` of the vector of all
        parameters; the range becomes what the payload stands for."""
        parts = tuple(
            Part(start=at, stop=at + size, data=self._compressed(piece, flat[at : at + size]))
            for piece in pieces
            for at, size in [(piece.offset - start, piece.stop - piece.start)]
        )
        payload = Payload(compressor=self._compressor, size=len(flat), parts=parts)
        flat[...] = payload.gradient()  # what a shard of this node reads
        self.sent_bytes += payload.size_bytes
        return payload

    def settle(self, *, finite: bool = True) -> None:
        """Nothing to do: of a step that is skipped nothing is pushed."""

    def rescale(self, factor: float) -> None:
        """Nothing to do: what is pushed is not scaled."""

    def state_dict(self) -> dict[str, Any]:
        """What was not sent, by parameter, and how often something was."""
        residuals = dict(self._restored)
        for piece, feedback in self._feedbacks.items():
            state = feedback.state_dict()
            self._step = state["step"]
            if piece.name in state["residuals"]:
                shape = self._shapes[piece.name]
                whole = residuals.setdefault(piece.name, torch.zeros(shape))
                whole.view(-1)[piece.start : piece.stop] = state["residuals"][piece.name]
        return {"step": self._step, "tensors": {}, "residuals": residuals}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._feedbacks.clear()
        self._step = state["step"]
        self._restored = {name: tensor.clone() for name, tensor in state["residuals"].items()}

    def close(self) -> None:
        """Nothing to end."""

    def _compressed(self, piece: Piece, gradient: NDArray[np.float32]) -> bytes:
        feedback = self._feedbacks.get(piece)
        if feedback is None:
            feedback = self._feedbacks[piece] = self._made(piece)
        one = Gradient(
            vector=torch.from_numpy(gradient), names=(piece.name,), shapes=((len(gradient),),)
        )
        return feedback.compress(one).numpy().tobytes()

    def _made(self, piece: Piece) -> Feedback:
        """Goes on from what was restored."""
        residuals = {}
        if piece.name in self._restored:
            whole = self._restored[piece.name].view(-1)
            residuals[piece.name] = whole[piece.start : piece.stop]
        feedback = Feedback(self._compressor)
        feedback.load_state_dict({"step": self._step, "tensors": {}, "residuals": residuals})
        return feedback
