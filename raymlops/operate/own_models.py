"""Models that were trained elsewhere: each becomes a version, deployed and watched as any other."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from raymlops.data import SCORE, Columns, Feature, Profile, read_columns
from raymlops.errors import DataError, ModelError
from raymlops.ledger import Bump, ModelVersion
from raymlops.ledger.names import check_name
from raymlops.ledger.provenance import code_at, environment
from raymlops.models import (
    Artifact,
    Bundle,
    Field,
    Postprocessing,
    Preprocessing,
    Recorded,
    Signature,
    format_named,
    read_model,
)
from raymlops.models.preprocessing import NumberEncoding
from raymlops.operate.workspace import Workspace

_ROUNDING = 1e-4


def register_model(
    workspace: Workspace,
    name: str,
    model: Path | Artifact,
    rows: pa.Table,
    *,
    postprocessing: Postprocessing,
    bump: Bump | None = None,
) -> ModelVersion:
    """Registers `model` as the next version of `name`, once it has answered `rows`.

    It is asked with a float32 matrix [rows, columns]: the columns of `rows` but that of the label,
    in their order, as they are.

    Args:
        model: a file in one of the formats, or what a format has saved.
        rows: rows with their label that it was not trained on; the traffic to come is held against
            them.
        postprocessing: how it says its label, whose name is that of the label's column.
        bump: without it the signature decides, as `register` has it.

    Raises:
        DataError: a column is no number or lacks values, or a probability's label is not 0 or 1.
        ModelError: the model cannot be loaded, or says anything but one number a row.
        UntrustedError: loading it could run code, and the ledger did not record its digest.
    """
    check_name(name, of="model")
    artifact = read_model(model) if isinstance(model, Path) else model
    bundle = _bundle(artifact, rows, postprocessing, recorded=workspace.ledger.is_recorded)
    runs = workspace.ledger.runs
    run = runs.start(
        kind="import",
        model=name,
        params={"format": artifact.format, "digest": artifact.digest, "num_rows": rows.num_rows},
        code=code_at(Path.cwd()),
        config="{}",
        environment=environment(),
        inputs={},
    )
    with runs.recording(run):
        digest = bundle.save(workspace.store)
        if not postprocessing.is_regression:
            runs.log(run.id, {"log_loss": bundle.profile.log_loss})
    return workspace.ledger.registry.register(
        name,
        bundle=digest,
        signature=bundle.signature.to_json(),
        run_id=run.id,
        bump=bump or bundle.signature.bump_from_json,
    )


def _bundle(
    artifact: Artifact, rows: pa.Table, postprocessing: Postprocessing, *, recorded: Recorded
) -> Bundle:
    """The model as it is served, with its answers to `rows` as the reference."""
    columns, labels = _columns(rows, postprocessing)
    preprocessing = Preprocessing(
        encodings=tuple(
            NumberEncoding(name=each, mean=0.0, std=1.0, flags_missing=False) for each in columns
        )
    )
    predictor = format_named(artifact.format).load(artifact, recorded=recorded)
    said = postprocessing.apply(predictor(preprocessing.transform(columns)))[postprocessing.score]
    return Bundle.of(
        signature=Signature(
            inputs=tuple(Field(name=each, datatype="FP64") for each in columns),
            outputs=postprocessing.outputs,
        ),
        preprocessing=preprocessing,
        model=artifact,
        postprocessing=postprocessing,
        profile=_profile(columns, labels, said, postprocessing),
        recorded=recorded,
    ).with_answers()


def _columns(rows: pa.Table, postprocessing: Postprocessing) -> tuple[Columns, NDArray[np.float64]]:
    """What the model is asked, and what came true."""
    label = postprocessing.label
    if label not in rows.column_names:
        raise DataError(
            f"the rows have no column '{label}', which holds what came true, but "
            f"{', '.join(rows.column_names)}: name it in the postprocessing"
        )
    if SCORE in rows.column_names:
        raise DataError(
            f"a column is called '{SCORE}', as the model's own output is in profiles and drift; "
            "give it another name"
        )
    features = tuple(Feature(name=each, kind="number") for each in rows.column_names)
    columns = dict(read_columns(rows, features))
    for each, values in columns.items():
        if missing := int(np.isnan(values).sum()):
            raise DataError(
                f"column '{each}' lacks {missing} of {len(values)} values; fill them as the model "
                "was trained, or leave these rows out"
            )
    labels = np.asarray(columns.pop(label), dtype=np.float64)
    if not postprocessing.is_regression and not np.isin(labels, (0, 1)).all():
        odd = labels[~np.isin(labels, (0, 1))][0]
        raise DataError(
            f"column '{label}' holds {odd:g}; a {postprocessing.reads} says that something is 0 or "
            "1, for numbers give reads='number'"
        )
    return columns, labels


def _profile(
    columns: Columns,
    labels: NDArray[np.float64],
    said: NDArray[np.float32],
    postprocessing: Postprocessing,
) -> Profile:
    features = [Feature(name=each, kind="number") for each in columns]
    label_rate = float(labels.mean())
    if postprocessing.is_regression:
        return Profile.of(features, columns, said, label_rate=label_rate, log_loss=0.0)
    from raymlops.train.tabular.quality import judge

    # Those that a forest adds up in float32 are a little off.
    probabilities = np.clip(said, 0.0, 1.0)
    if (off := np.abs(said - probabilities)).max() > _ROUNDING:
        raise ModelError(
            f"the model says {said[off.argmax()]:g}, which is no probability: give reads='logit', "
            "or for numbers reads='number'"
        )
    log_loss = judge(probabilities, labels).log_loss
    return Profile.of(
        features, columns, said, label_rate=label_rate, log_loss=log_loss
    ).with_reliability(probabilities, labels, threshold=postprocessing.threshold)
