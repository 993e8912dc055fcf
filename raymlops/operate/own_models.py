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
from raymlops.ledger.figures import shown_figure
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
from raymlops.monitor import loss_of
from raymlops.monitor.measures import orders
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
    query: str | None = None,
    bump: Bump | None = None,
) -> ModelVersion:
    """Registers `model` as the next version of `name`, once it has answered `rows`.

    It is asked with a float32 matrix [rows, columns]: the columns of `rows` but those of the label
    and the query, in their order, as they are.

    Args:
        model: a file in one of the formats, or what a format has saved.
        rows: rows with their label that it was not trained on; the traffic to come is held against
            them.
        postprocessing: how it says its label, whose name is that of the label's column.
        query: of a model that ranks, the column that says which rows were of one query. Once it is
            served, those of one request are.
        bump: without it the signature decides, as `register` has it.

    Raises:
        DataError: a column is no number or lacks values, or a label is none that the model can
            say: of one probability 0 or 1, of several classes one of these, of an order 0 or more.
        ValueError: a model that ranks has no `query`, or another has one.
        ModelError: the model cannot be loaded, or says anything but one number a row, or one for
            each class.
        UntrustedError: loading it could run code, and the ledger did not record its digest.
    """
    check_name(name, of="model")
    artifact = read_model(model) if isinstance(model, Path) else model
    bundle = bundle_of(
        artifact, rows, postprocessing, query=query, recorded=workspace.ledger.is_recorded
    )
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
        runs.log(run.id, {loss_of(postprocessing).metric: bundle.profile.loss})
    return workspace.ledger.registry.register(
        name,
        bundle=digest,
        signature=bundle.signature.to_json(),
        run_id=run.id,
        bump=bump or bundle.signature.bump_from_json,
    )


def bundle_of(
    artifact: Artifact,
    rows: pa.Table,
    postprocessing: Postprocessing,
    *,
    query: str | None = None,
    recorded: Recorded,
) -> Bundle:
    """The model as it is served, with its answers to `rows` as the reference."""
    queries, rows = _queries(rows, query, postprocessing)
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
        profile=_profile(columns, labels, said, queries, postprocessing),
        recorded=recorded,
    ).with_answers()


def _queries(
    rows: pa.Table, query: str | None, postprocessing: Postprocessing
) -> tuple[NDArray[np.int64], pa.Table]:
    """The number of the query that each row is of, where there are any, and all other columns."""
    if postprocessing.is_ranking != (query is not None):
        raise ValueError(
            "a model that says a relevance is held to the order of the rows of each query: name "
            "the column that tells these apart, query='...'"
            if query is None
            else f"query is '{query}', but a {postprocessing.reads} orders nothing: leave it out"
        )
    if query is None:
        return np.empty(0, np.int64), rows
    if query not in rows.column_names:
        raise DataError(
            f"the rows have no column '{query}', which is to say which of them are of one query, "
            f"but {', '.join(rows.column_names)}"
        )
    if missing := rows[query].null_count:
        raise DataError(f"column '{query}' names no query in {missing} of {rows.num_rows} rows")
    numbers = rows[query].combine_chunks().dictionary_encode().indices
    return numbers.to_numpy().astype(np.int64), rows.drop_columns(query)


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
    if postprocessing.is_ranking:
        if (labels < 0).any():
            raise DataError(
                f"column '{label}' holds {labels.min():g}; how relevant a row was is 0, of no use, "
                "or more"
            )
    elif not postprocessing.is_regression and not np.isin(labels, (0, 1)).all():
        odd = labels[~np.isin(labels, (0, 1))][0]
        raise DataError(
            f"column '{label}' holds {odd:g}; a {postprocessing.reads} says that something is 0 or "
            "1; for several classes name them, for numbers give reads='number', for an order "
            "reads='relevance'"
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
    queries: NDArray[np.int64],
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
        found = Profile.of_numbers(features, columns, said, label_mean=label_rate, errors=errors)
        _warn_if_worse(
            "RMSE",
            found.loss,
            float(labels.std()),
            naive="always saying their mean",
            ask="does the model say the label in its own unit",
        )
        return found
    if postprocessing.is_ranking:
        losses, by_chance = _losses(said, labels, queries)
        found = Profile.of_rankings(features, columns, said, label_mean=label_rate, losses=losses)
        _warn_if_worse(
            "NDCG loss",
            found.loss,
            float(by_chance.mean()),
            naive="a random order",
            ask="does it say the largest of the most relevant rows",
        )
        return found
    from raymlops.train.tabular.quality import judge

    probabilities = _probabilities(said)
    log_loss = judge(probabilities, labels).log_loss
    _warn_if_worse(
        "log loss",
        log_loss,
        judge(np.full(len(labels), label_rate), labels).log_loss,
        naive="always saying how frequent 1 is",
        ask="does the model say the probability of 1, and not of 0",
    )
    return Profile.of(
        features, columns, said, label_rate=label_rate, log_loss=log_loss
    ).with_reliability(probabilities, labels, threshold=postprocessing.threshold)


def _losses(
    said: NDArray[np.float32], relevance: NDArray[np.float64], queries: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """What the NDCG of each query lacks of 1, and would in a random order; rows of which the model
    says nothing are left out, as windows do."""
    known = np.isfinite(said)
    scores = said[known].astype(np.float64)
    found, by_chance = (
        1.0 - orders(each, relevance[known], queries[known]).ndcg
        for each in (scores, np.zeros_like(scores))
    )
    if not found.size:
        raise ModelError(
            f"in none of {len(np.unique(queries))} queries is a row that the model says a number "
            "of of any use (above 0), so nothing tells a good order from a bad one"
        )
    return found, by_chance


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
    _warn_if_worse(
        "log loss",
        log_loss,
        constant_loss(labels, rates),
        naive="always saying how frequent each class is",
        ask="are the classes in the order of the model's columns, " + ", ".join(map(repr, classes)),
    )
    return Profile.of_classes(
        features, columns, said, classes, class_rates=rates, log_loss=log_loss
    ).with_certainty(probabilities, labels)


def _warn_if_worse(metric: str, loss: float, guess: float, *, naive: str, ask: str) -> None:
    """A model that a guess beats on `rows` has mostly been registered for another than it is."""
    if 0.0 < guess < loss:
        _logger.warning(
            "its %s is %s on these rows; %s costs %s: %s?",
            metric,
            shown_figure(loss),
            naive,
            shown_figure(guess),
            ask,
        )


def _probabilities(said: NDArray[np.float32]) -> NDArray[np.float32]:
    """Those that a forest adds up in float32 are a little off."""
    probabilities = np.clip(said, 0.0, 1.0)
    if (off := np.abs(said - probabilities)).max() > _ROUNDING:
        raise ModelError(
            f"the model says {said.flat[off.argmax()]:g}, which is no probability: give "
            "reads='logit', or for numbers reads='number'"
        )
    return probabilities
