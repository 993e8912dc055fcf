"""A trained bundle becomes the version that its signature makes it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from raymlops import operate
from raymlops.data import Feature, TableSchema
from raymlops.errors import LedgerError
from raymlops.ledger import Bump
from raymlops.ledger.registry import Registry
from raymlops.models import Bundle, Signature
from raymlops.operate import Workspace
from raymlops.train.tabular.training import Training
from tests.operate.bundles import bundle_of
from tests.runs import start_training


@pytest.fixture
def workspace(tmp_path: Path) -> Iterator[Workspace]:
    with Workspace.open(overrides=(f"home={tmp_path}",)) as workspace:
        yield workspace


def schema(high: float) -> TableSchema:
    """Rows whose radius is at most `high`."""
    return TableSchema(
        dataset="tumours",
        target="target",
        event_time="seen_at",
        features=(
            Feature(name="mean_radius", kind="number", low=0, high=high),
            Feature(name="size", kind="category"),
        ),
    )


def trained(workspace: Workspace, bundle: Bundle) -> Training:
    run = start_training(workspace.ledger, "tumours")
    last_event = datetime(2024, 1, 24, tzinfo=UTC)
    return Training(run=run, bundle=bundle, qualities={}, last_event=last_event)


def test_the_signature_says_which_number_moves_unless_it_is_given(
    workspace: Workspace, tumours: pa.Table
) -> None:
    bundle = bundle_of(tumours, schema(100), inverted=False)

    def register(high: float, bump: Bump | None = None) -> str:
        signature = Signature.of(schema(high), bundle.postprocessing.outputs)
        training = trained(workspace, replace(bundle, signature=signature))
        return str(operate.register(workspace, training, bump=bump).version)

    assert register(100) == "1.0.0"
    assert register(100) == "1.0.1"  # trained anew
    assert register(200) == "1.1.0"  # takes more
    assert register(50) == "2.0.0"  # refuses what it took
    assert register(50, bump="minor") == "2.1.0"


@pytest.mark.parametrize("is_written", [False, True])
def test_a_training_is_registered_once_however_often_the_ledger_is_away(
    is_written: bool, workspace: Workspace, tumours: pa.Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It had finished, and nothing was left to make a version of: it was trained again."""
    monkeypatch.setattr("raymlops.ledger.patience._RETRY_S", 0.0)
    num_away = 3

    def at_first_away(act: Callable[..., Any]) -> Callable[..., Any]:
        def acted(registry: Registry, *args: Any, **kwargs: Any) -> Any:
            nonlocal num_away
            num_away -= 1
            if num_away < 0:
                return act(registry, *args, **kwargs)
            if is_written and num_away == 0:
                act(registry, *args, **kwargs)
            raise LedgerError("the database is away")

        return acted

    training = trained(workspace, bundle_of(tumours, schema(100), inverted=False))
    for name in ("register", "move"):
        monkeypatch.setattr(Registry, name, at_first_away(getattr(Registry, name)))
    version = operate.register(workspace, training)
    num_away = 3
    operate.promote_first(workspace, version, who="me")
    registry = workspace.ledger.registry
    assert registry.list("tumours") == [version]
    assert [move.version for move in registry.moves("tumours", "champion")] == [version.version]
