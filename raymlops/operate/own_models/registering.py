"""A model, with rows it was not trained on, becomes a version."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa

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
from raymlops.monitor import loss_of
from raymlops.operate.own_models.reference import profile_of
from raymlops.operate.own_models.rows import columns_of, queries_of
from raymlops.operate.workspace import Workspace


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
    queries, rows = queries_of(rows, query, postprocessing)
    columns, labels = columns_of(rows, postprocessing)
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
        profile=profile_of(columns, labels, said, queries, postprocessing),
        recorded=recorded,
    ).with_answers()
