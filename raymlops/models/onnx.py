"""ONNX: export with the numbers compared, and a session to run it."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from raymlops.errors import ModelError
from raymlops.models.interrupts import interrupts_held
from raymlops.models.parity import check_parity
from raymlops.models.predictors import Matrix, flat, mode_kept, predictor_of

if TYPE_CHECKING:
    import torch

# float32 sums in another order differ by about 1e-6 for logits of a few units.
PARITY_TOLERANCE = 1e-4

_PROBABILITIES = "probabilities"


class Scorer(Protocol):
    """Logits [rows] of rows of inputs."""

    def __call__(self, matrix: Matrix, /) -> NDArray[np.float32]: ...


class OnnxScorer:
    """An ONNX Runtime session over a model with one input.

    By default on one thread of the CPU. It answers the only output, or of several the one named
    `probabilities`, as scikit-learn's classifiers have it beside their label.

    Raises:
        ModelError: the bytes are no ONNX model, or nobody can tell which output is meant.
    """

    def __init__(
        self,
        model: bytes,
        *,
        options: Any = None,
        providers: Sequence[str] = ("CPUExecutionProvider",),
    ) -> None:
        import onnxruntime

        try:
            self.session: Any = onnxruntime.InferenceSession(
                model,
                options or session_options(),
                providers=list(providers),
                # Else it prints what failed to stdout, and goes on with the CPU.
                enable_fallback=False,
            )
        except Exception as error:  # onnxruntime's errors share no base but Exception
            raise ModelError(f"not a model ONNX Runtime can load: {error}") from error
        inputs = [each.name for each in self.session.get_inputs()]
        outputs = [each.name for each in self.session.get_outputs()]
        if len(inputs) != 1:
            raise ModelError(f"the ONNX model takes {len(inputs)} inputs, {inputs}, not one matrix")
        if len(outputs) > 1 and _PROBABILITIES not in outputs:
            raise ModelError(f"the ONNX model gives {outputs}; none is called '{_PROBABILITIES}'")
        self.input = inputs[0]
        self.outputs = outputs if len(outputs) == 1 else [_PROBABILITIES]

    def __call__(self, matrix: Matrix, /) -> NDArray[np.float32]:
        return flat(self.session.run(self.outputs, {self.input: matrix})[0])


def session_options(*, num_threads: int = 1) -> Any:
    """Options of ONNX Runtime: so many threads for one call, and no chatter."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = num_threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return options


def export(
    module: torch.nn.Module,
    sample: Matrix,
    *,
    output: str = "output",
    any_length: bool = False,
) -> bytes:
    """`module` as ONNX with a free batch size, after what it says of `sample` was found equal.

    Args:
        module: maps float32 [rows, width], or tensors like those of the sample, to numbers, [rows]
            or several a row.
        sample: real rows, [rows, ...], at least two.
        output: what ONNX calls what the module says.
        any_length: whether it takes rows of any length, the second axis, as texts are.

    Raises:
        ParityError: one of them differs by more than `PARITY_TOLERANCE`.
    """
    with mode_kept(module):
        data = export_unchecked(module, sample, output=output, any_length=any_length)
        wanted = predictor_of(module)(sample)
    check_parity(
        OnnxScorer(data)(sample),
        wanted,
        tolerance=PARITY_TOLERANCE,
        of="ONNX",
        original="the module",
    )
    return data


def export_unchecked(
    module: torch.nn.Module,
    sample: Matrix,
    *,
    output: str = "output",
    any_length: bool = False,
) -> bytes:
    """`module` as ONNX, for callers who compare the numbers themselves."""
    import torch

    module, rows = module.eval(), torch.from_numpy(sample)
    free = {0: torch.export.Dim("rows")}
    if any_length:
        free[1] = torch.export.Dim("positions")

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
                output_names=[output],
                dynamic_shapes=(free,),
            )
    finally:
        quiet.setLevel(level)
    if program is None:
        raise ModelError("torch.onnx.export returned no program")
    data: bytes = program.model_proto.SerializeToString()
    return data
