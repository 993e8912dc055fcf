"""Models that were trained elsewhere: each becomes a version, deployed and watched as any other."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from raymlops.data import (
    OUTPUTS,
    Columns,
    Feature,
    Profile,
    class_numbers,
    read_classes,
    read_columns,
)
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

_logger = logging.getLogger(__name__)


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
        DataError: a column is no number or lacks values, or a label is none that the model can
            say: of one probability 0 or 1, of several classes one of these.
        ModelError: the model cannot be loaded, or says anything but one number a row, or one for
            each class.
        UntrustedError: loading it could run code, and the ledger did not record its digest.
    """
    check_name(name, of="model")
    artifact = read_model(model) if isinstance(model, Path) else model
    bundle = bundle_of(artifact, rows, postprocessing, recorded=workspace.ledger.is_recorded)
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
        loss = "rmse" if postprocessing.is_regression else "log_loss"
        runs.log(run.id, {loss: bundle.profile.loss})
    return workspace.ledger.registry.register(
        name,
        bundle=digest,
        signature=bundle.signature.to_json(),
        run_id=run.id,
        bump=bump or bundle.signature.bump_from_json,
    )


def bundle_of(
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
    if taken := [name for name in OUTPUTS if name in rows.column_names]:
        raise DataError(
            f"a column is called '{taken[0]}', as the model's own output is in profiles and drift; "
            "give it another name"
        )
    labels = None
    if postprocessing.classes:
        labels, rows = _classes(rows[label], postprocessing), rows.drop_columns(label)
    features = tuple(Feature(name=each, kind="number") for each in rows.column_names)
    columns = dict(read_columns(rows, features))
    for each, values in columns.items():
        if missing := int(np.isnan(values).sum()):
            raise DataError(
                f"column '{each}' lacks {missing} of {len(values)} values; fill them as the model "
                "was trained, or leave these rows out"
            )
    if labels is not None:
        return columns, labels
    labels = np.asarray(columns.pop(label), dtype=np.float64)
    if (infinite := int(np.isinf(labels).sum())) > 0:
        raise DataError(
            f"column '{label}' is infinite in {infinite} of {len(labels)} rows, of which no error "
            "can be told; leave these rows out"
        )
    if not postprocessing.is_regression and not np.isin(labels, (0, 1)).all():
        odd = labels[~np.isin(labels, (0, 1))][0]
        raise DataError(
            f"column '{label}' holds {odd:g}; a {postprocessing.reads} says that something is 0 or "
            "1; for several classes name them, for numbers give reads='number'"
        )
    return columns, labels


def _classes(column: pa.ChunkedArray, postprocessing: Postprocessing) -> NDArray[np.float64]:
    """The number of the class that came true in each row."""
    classes, name = postprocessing.classes, postprocessing.label
    values = read_classes(column, classes[0], name=name)
    numbers = class_numbers(values, classes)
    if (odd := numbers < 0).any():
        raise DataError(
            f"column '{name}' holds {values[odd][0]!r}, the classes of the model are "
            f"{', '.join(map(repr, classes))}"
        )
    return numbers.astype(np.float64)


def _profile(
    columns: Columns,
    labels: NDArray[np.float64],
    said: NDArray[np.float32],
    postprocessing: Postprocessing,
) -> Profile:
    features = [Feature(name=each, kind="number") for each in columns]
    if postprocessing.classes:
        return _profile_of_classes(features, columns, labels.astype(np.int64), said, postprocessing)
    label_rate = float(labels.mean())
    if postprocessing.is_regression:
        errors = (said - labels)[~np.isnan(said)]  # as windows leave out what it says nothing of
        if not errors.size or np.isinf(errors).any():
            raise ModelError(
                f"of {len(said)} rows the model says {len(errors)} numbers, "
                f"{int(np.isinf(errors).sum())} of them infinite: its error cannot be told"
            )
        return Profile.of_numbers(features, columns, said, label_mean=label_rate, errors=errors)
    from raymlops.train.tabular.quality import judge

    probabilities = _probabilities(said)
    log_loss = judge(probabilities, labels).log_loss
    return Profile.of(
        features, columns, said, label_rate=label_rate, log_loss=log_loss
    ).with_reliability(probabilities, labels, threshold=postprocessing.threshold)


def _profile_of_classes(
    features: list[Feature],
    columns: Columns,
    labels: NDArray[np.int64],
    said: NDArray[np.float32],
    postprocessing: Postprocessing,
) -> Profile:
    from raymlops.train.tabular.quality import class_rates, constant_loss, judge_classes

    probabilities, classes = _probabilities(said), postprocessing.classes
    if (off := np.abs(probabilities.sum(axis=1) - 1.0)).max() > _ROUNDING:
        raise ModelError(
            f"the model says {probabilities[off.argmax()].tolist()} of one row, and probabilities "
            "of all classes add up to 1: give reads='logit'"
        )
    rates = class_rates(labels, len(classes))
    log_loss = judge_classes(probabilities, labels).log_loss
    if log_loss > (constant := constant_loss(labels, rates)):
        _logger.warning(
            "its log loss is %.3f on these rows; always saying how frequent each class is costs "
            "%.3f: are the classes in the order of the model's columns, %s?",
            log_loss,
            constant,
            ", ".join(map(repr, classes)),
        )
    return Profile.of_classes(
        features, columns, said, classes, class_rates=rates, log_loss=log_loss
    ).with_certainty(probabilities, labels)


def _probabilities(said: NDArray[np.float32]) -> NDArray[np.float32]:
    """Those that a forest adds up in float32 are a little off."""
    probabilities = np.clip(said, 0.0, 1.0)
    if (off := np.abs(said - probabilities)).max() > _ROUNDING:
        raise ModelError(
            f"the model says {said.flat[off.argmax()]:g}, which is no probability: give "
            "reads='logit', or for numbers reads='number'"
        )
    return probabilities
