"""Models that rank are held to their order."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest
from sklearn.ensemble import RandomForestRegressor
from sklearn.metrics import ndcg_score

from raymlops.errors import DataError, ModelError
from raymlops.models import (
    Artifact,
    Bundle,
    Postprocessing,
)
from raymlops.operate import Workspace, register_model
from tests.operate.own_models.material import (
    NUMBER,
    WINE,
    fitted,
    matrix,
    said,
    saved,
    unseen,
)

RELEVANCE = Postprocessing(label="label", reads="relevance")


def ranked() -> tuple[Artifact, pa.Table, np.ndarray]:
    """A forest that orders the wines of each query, thirty of which are useful as they are of the
    first kind or, less so, the second; rows, and what it says of them."""
    wanted = 2.0 - WINE.target
    forest = fitted(SimpleNamespace(data=WINE.data, target=wanted), RandomForestRegressor)
    rows = unseen(SimpleNamespace(data=WINE.data, target=wanted))
    queries = np.random.default_rng(0).choice(["red", "white", "rose", "none"], rows.num_rows)
    useless = np.where(queries == "none", 0.0, rows["label"].to_numpy())
    rows = rows.set_column(13, "label", pa.array(useless)).append_column("query", pa.array(queries))
    return saved(forest, WINE), rows, forest.predict(matrix(WINE)[1::2])


def test_a_ranking_answers_as_it_did_and_is_held_to_its_order(workspace: Workspace) -> None:
    model, rows, scores = ranked()
    version = register_model(
        workspace, "wines", model, rows, postprocessing=RELEVANCE, query="query"
    )
    bundle = Bundle.of_version(workspace.store, version)
    assert bundle.signature.is_ranking
    assert not bundle.signature.is_regression
    assert "query" not in {field.name for field in bundle.signature.inputs}
    found = said(workspace, "wines@1.0.0", rows.drop_columns("query"))["label"]
    np.testing.assert_allclose(found, scores, rtol=1e-5)
    relevance, queries = rows["label"].to_numpy(), rows["query"].to_numpy()
    losses = [
        1.0 - ndcg_score([relevance[queries == each]], [found[queries == each]], k=10)
        for each in ("red", "white", "rose")  # in "none" nothing is of any use
    ]
    assert bundle.profile.loss == pytest.approx(np.mean(losses))
    assert 0.0 < bundle.profile.loss < 0.2
    assert bundle.profile.tolerance == pytest.approx(np.quantile(losses, 0.9))
    assert bundle.profile.far_off_rate == pytest.approx(1 / 3)
    logged = workspace.ledger.runs.last_metrics(version.run_id)
    assert logged == {"ndcg_loss": bundle.profile.loss}


def test_an_order_that_nothing_tells_of_is_refused(workspace: Workspace) -> None:
    model, rows, _ = ranked()
    nowhere = rows.set_column(13, "label", pa.array(np.zeros(rows.num_rows)))
    below = rows.set_column(13, "label", pa.array(np.full(rows.num_rows, -1.0)))
    gap = rows.set_column(14, "query", pa.array([None, *rows["query"].to_pylist()[1:]]))
    plain = rows.drop_columns("query")
    for table, saying, query, error, message in (
        (rows, RELEVANCE, None, ValueError, "name the column that tells these apart"),
        (plain, NUMBER, "query", ValueError, "a number orders nothing: leave it out"),
        (plain, RELEVANCE, "query", DataError, "no column 'query', which is to say which of them"),
        (gap, RELEVANCE, "query", DataError, "names no query in 1 of 89 rows"),
        (below, RELEVANCE, "query", DataError, "holds -1; how relevant a row was is 0, of no use"),
        (nowhere, RELEVANCE, "query", ModelError, "in none of 4 queries is a row"),
    ):
        with pytest.raises(error, match=message):
            register_model(workspace, "m", model, table, postprocessing=saying, query=query)
    assert workspace.ledger.registry.models() == []


def test_an_order_that_is_turned_is_told(
    workspace: Workspace, caplog: pytest.LogCaptureFixture
) -> None:
    _, rows, _ = ranked()
    forest = fitted(WINE, RandomForestRegressor)  # which says most of what is wanted least
    model = saved(forest, WINE)
    register_model(workspace, "wines", model, rows, postprocessing=RELEVANCE, query="query")
    assert "a random order costs 0." in caplog.text
    assert "does it say the largest of the most relevant rows?" in caplog.text
