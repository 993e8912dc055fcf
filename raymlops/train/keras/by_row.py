"""Whether a loss of one's own has a value for each row, which no other row changes."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from raymlops.errors import TrainingError

if TYPE_CHECKING:
    from raymlops.data.loading import Source
    from raymlops.train.keras.spec import KerasSpec

# From all over the source: where all targets are alike nothing tells.
_ROWS = 256


def require_by_row(
    spec: KerasSpec,
    losses: Callable[[Any, Any], Any],
    source: Source,
    output_shape: tuple[int | None, ...],
) -> None:
    """Asks `losses` of some targets, and of outputs that stand in for a model's, between 0
    and 1, where these know their shape.

    Workers share a batch: what is no mean over its rows is another loss on each number of them.

    Raises:
        TrainingError: there is not one for each row; or targets and outputs differ by a last axis
            of 1, and all targets are held against all outputs.
    """
    widths = [width for width in output_shape[1:] if width is not None]
    if isinstance(spec.loss, str) or len(widths) < len(output_shape) - 1:
        return
    num_rows = min(_ROWS, len(source))
    *_, targets = source.take(np.linspace(0, len(source) - 1, num_rows).astype(np.int64))
    shape = (num_rows, *widths)
    outputs = np.random.default_rng(0).uniform(0.1, 0.9, shape).astype(np.float32)
    whole = _asked(losses, targets, outputs)
    if whole.shape[:1] != (num_rows,):
        raise TrainingError(
            f"loss {spec.loss.call} gives values of shape {list(whole.shape)} for {num_rows} "
            "rows: let it give one for each row, such as a mean over the last axis"
        )
    if (*targets.shape, 1) != shape:
        return
    first = _asked(losses, targets[:1], outputs[:1])
    if not np.allclose(whole[:1], first, rtol=1e-3, atol=1e-5, equal_nan=True):
        raise TrainingError(
            f"loss {spec.loss.call} holds each row's target against the outputs of all rows, since "
            f"targets have shape {_told(targets.shape)} and outputs {_told(shape)}: let "
            f"{spec.data.call} give targets of shape {_told(shape)}, or the loss reshape them"
        )


def _asked(losses: Callable[[Any, Any], Any], targets: Any, outputs: Any) -> Any:
    import tensorflow as tf

    return np.asarray(losses(tf.constant(targets), tf.constant(outputs)))


def _told(shape: tuple[int | None, ...]) -> str:
    return f"[{', '.join(['rows', *map(str, shape[1:])])}]"
