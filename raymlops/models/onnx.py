"""ONNX: export with the numbers compared, and a session to run it."""

from __future__ import annotations

import logging
import warnings
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from raymlops.errors import ModelError, ParityError
from raymlops.models.interrupts import interrupts_held

if TYPE_CHECKING:
    import torch

# float32 sums in another order differ by about 1e-6 for logits of a few units.
PARITY_TOLERANCE = 1e-4


class Scorer(Protocol):
    """Logits [rows] of a float32 matrix [rows, width]."""

    def __call__(self, matrix: NDArray[np.float32], /) -> NDArray[np.float32]: ...


class OnnxScorer:
    """An ONNX Runtime session over a model with one input and one output of logits [rows].

    Raises:
        ModelError: the bytes are no ONNX model.
    """

    def __init__(self, model: bytes, *, num_threads: int = 1) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = num_threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        try:
            self._session: Any = onnxruntime.InferenceSession(
                model, options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # onnxruntime's errors share no base but Exception
            raise ModelError(f"not a model ONNX Runtime can load: {error}") from error
        self._input = self._session.get_inputs()[0].name

    def __call__(self, matrix: NDArray[np.float32], /) -> NDArray[np.float32]:
        logits: NDArray[np.float32] = self._session.run(None, {self._input: matrix})[0]
        return logits


def export(module: torch.nn.Module, sample: NDArray[np.float32]) -> bytes:
    """`module` as ONNX with a free batch size, after its logits on `sample` were found equal.

    Args:
        module: maps float32 [rows, width] to logits [rows].
        sample: real rows, [rows, width], at least two.

    Raises:
        ParityError: a logit differs by more than `PARITY_TOLERANCE`.
    """
    import torch

    module = module.eval()
    rows = torch.from_numpy(sample)
    data = _export(module, rows)
    with torch.no_grad():
        wanted = module(rows).numpy()
    got = OnnxScorer(data)(sample)
    if got.shape != wanted.shape:
        raise ParityError(f"ONNX gives shape {got.shape}, the module {wanted.shape}")
    difference = np.abs(got - wanted)
    worst = int(np.argmax(difference))
    if not difference[worst] <= PARITY_TOLERANCE:  # also when it is NaN
        raise ParityError(
            f"row {worst} of {len(sample)}: ONNX gives logit {got[worst]:.6g}, the module "
            f"{wanted[worst]:.6g}; they may differ by {PARITY_TOLERANCE:g}"
        )
    return data


def _export(module: torch.nn.Module, rows: torch.Tensor) -> bytes:
    import torch

    # The exporter reports its progress as warnings and log lines about its own internals.
    quiet = logging.getLogger("torch.onnx")
    level = quiet.level
    quiet.setLevel(logging.ERROR)
    try:
        with interrupts_held(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            program = torch.onnx.export(
                module,
                (rows,),
                dynamo=True,
                verbose=False,
                input_names=["matrix"],
                output_names=["logits"],
                dynamic_shapes=({0: torch.export.Dim("rows")},),
            )
    finally:
        quiet.setLevel(level)
    if program is None:
        raise ModelError("torch.onnx.export returned no program")
    data: bytes = program.model_proto.SerializeToString()
    return data
