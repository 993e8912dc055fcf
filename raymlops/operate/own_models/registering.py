"""A model, with rows it was not trained on, becomes a version."""

from __future__ import annotations

from pathlib import Path
from types import MappingProxyType

import pyarrow as pa

from raymlops.ledger import Bump, ModelVersion
from raymlops.ledger.names import check_name
from raymlops.ledger.provenance import code_at, environment
from raymlops.models import (
    Artifact,
    Bundle,
    Postprocessing,
    Recorded,
    Signature,
    format_named,
    read_model,
)
from raymlops.monitor import loss_of
from raymlops.operate.own_models.asked import Bounds
from raymlops.operate.own_models.reference import profile_of
from raymlops.operate.own_models.rows import asked_of, queries_of
from raymlops.operate.workspace import Workspace


def register_model(
    workspace: Workspace,
    name: str,
    model: Path | Artifact,
    rows: pa.Table,
    *,
    postprocessing: Postprocessing,
    query: str | None = None,
    bounds: Bounds = MappingProxyType({}),
    bump: Bump | None = None,
) -> ModelVersion:
    """Registers `model` as the next version of `name`, once it has answered `rows`.

    It is asked with a float32 matrix [rows, columns]: the columns of `rows` but those of the label
    and the query, in their order, as they are. Where these are one column of lists, such as images
    or tokens, it is asked with that tensor, [rows, ...].

    Args:
        model: a file in one of the formats, or what a format has saved.
        rows: rows with their label that it was not trained on; the traffic to come is held against
            them.
        postprocessing: how it says its label, whose name is that of the label's column.
        query: of a model that ranks, the column that says which rows were of one query. Once it is
            served, those of one request are.
        bounds: of a column the least and the largest value that the model takes, None where it
            takes any; a request beyond them is refused, such as a token outside the vocabulary.
        bump: without it the signature decides, as `register` has it.

    Raises:
        DataError: a column is no number, no tensor, lacks values or leaves its bounds, or a label
            is none that the model can say: of one probability 0 or 1, of several classes one of
            these, of an order 0 or more.
        ValueError: a model that ranks has no `query`, or another has one; `bounds` names no column.
        ModelError: the model cannot be loaded, does not take the rows, or says anything but one
            number a row, or one for each class.
        UntrustedError: loading it could run code, and the ledger did not record its digest.
    """
    check_name(name, of="model")
    artifact = read_model(model) if isinstance(model, Path) else model
    bundle = bundle_of(
        artifact,
        rows,
        postprocessing,
        query=query,
        bounds=bounds,
        recorded=workspace.ledger.is_recorded,
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
    bounds: Bounds = MappingProxyType({}),
    recorded: Recorded,
) -> Bundle:
    """The model as it is served, with its answers to `rows` as the reference."""
    queries, rows = queries_of(rows, query, postprocessing)
    asked, labels = asked_of(rows, postprocessing)
    asked = asked.within(bounds)
    predictor = format_named(artifact.format).load(artifact, recorded=recorded)
    said = asked.said_by(predictor, postprocessing)
    return Bundle.of(
        signature=Signature(inputs=asked.fields, outputs=postprocessing.outputs),
        preprocessing=asked.preprocessing,
        model=artifact,
        postprocessing=postprocessing,
        profile=profile_of(asked, labels, said, queries, postprocessing),
        recorded=recorded,
    ).with_answers()
