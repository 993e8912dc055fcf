"""Whether a model is what was recorded and still does what it did."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from raymlops.errors import ModelError
from raymlops.models.artifact import Artifact
from raymlops.models.bundle import Bundle
from raymlops.models.formats import Recorded, format_named
from raymlops.models.predictors import Matrix


@dataclass(frozen=True, kw_only=True)
class Verification:
    """What was found right; what is wrong is raised.

    `num_answers` counts rows whose recorded answers were given again, `num_rows` those asked.
    """

    format: str
    digest: str
    recorded: bool
    num_rows: int
    num_answers: int
    output_shape: tuple[int, ...]


def verify_model(
    artifact: Artifact, sample: Matrix | None = None, *, recorded: Recorded
) -> Verification:
    """Loads the model and, with rows, asks it.

    Raises:
        UntrustedError: loading could run code and the digest is not recorded.
        ModelError: it cannot be loaded, does not take the rows, or gives NaN.
    """
    predictor = format_named(artifact.format).load(artifact, recorded=recorded)
    shape: tuple[int, ...] = ()
    if sample is not None:
        try:
            outputs = predictor(sample)
        except Exception as error:  # every library has its own way to refuse a matrix
            raise ModelError(
                f"{artifact.format} does not take a matrix {list(sample.shape)}: {error}"
            ) from error
        _refuse_nan(outputs.astype(np.float64), artifact.format)
        shape = outputs.shape[1:]
    return Verification(
        format=artifact.format,
        digest=artifact.digest,
        recorded=recorded(artifact.digest),
        num_rows=0 if sample is None else len(sample),
        num_answers=0,
        output_shape=shape,
    )


def verify_bundle(bundle: Bundle, digest: str, num_rows: int = 32) -> Verification:
    """Asks a bundle for rows its signature allows, and for its recorded answers.

    Raises:
        ModelError: it cannot be loaded, or gives fields its signature does not have.
        ParityError: it answers otherwise than when it was made.
    """
    outputs = bundle.predict(bundle.sample(num_rows))
    promised = [field.name for field in bundle.signature.outputs]
    if sorted(outputs) != sorted(promised):
        raise ModelError(f"the bundle gives {sorted(outputs)}, its signature says {promised}")
    label = bundle.signature.label
    for name, values in outputs.items():
        if label is None or name != label.name:  # a class may be a text, and is never missing
            _refuse_nan(np.asarray(values, np.float64), bundle.format)
    return Verification(
        format=bundle.format,
        digest=digest,
        recorded=True,
        num_rows=num_rows,
        num_answers=bundle.check_answers(),
        output_shape=(),
    )


def _refuse_nan(outputs: np.ndarray, name: str) -> None:
    if not np.isfinite(outputs).all():
        row = int(np.argwhere(~np.isfinite(outputs))[0][0])
        raise ModelError(f"{name} gives {outputs[row]} for row {row}")
