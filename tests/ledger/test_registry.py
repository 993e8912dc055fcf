"""Versions and the aliases that name them."""

from __future__ import annotations

import pytest

from raymlops.data import TableSchema
from raymlops.errors import ConflictError, NotFoundError
from raymlops.ledger import Ledger, Run, Version


def test_versions_are_numbered_from_the_largest_and_never_overwritten(
    ledger: Ledger, run: Run
) -> None:
    registry = ledger.registry

    def register(**more: object) -> str:
        version = registry.register(
            "tumours",
            bundle="b",
            signature="{}",
            run_id=run.id,
            **more,  # type: ignore[arg-type]
        )
        return str(version.version)

    assert register() == "1.0.0"
    assert register(version=Version(1, 9, 0)) == "1.9.0"
    assert register(version=Version(1, 10, 0)) == "1.10.0"
    # A rollback must not make the registry number from the version it went back to.
    registry.move("tumours", "champion", Version(1, 0, 0), who="me", why="rollback", evidence={})
    assert register() == "1.10.1"
    assert register(bump="major") == "2.0.0"
    assert [str(v.version) for v in registry.list("tumours")] == [
        "1.0.0", "1.9.0", "1.10.0", "1.10.1", "2.0.0",
    ]  # fmt: skip
    with pytest.raises(ConflictError, match=r"tumours 1\.9\.0 exists already; the newest is 2"):
        register(version=Version(1, 9, 0))


def test_references_resolve_by_alias_and_by_version(ledger: Ledger, run: Run) -> None:
    with pytest.raises(NotFoundError, match="no model 'tumours', nor any other; `raymlops doctor`"):
        ledger.registry.resolve("tumours@champion")
    first = ledger.registry.register("tumours", bundle="b", signature="{}", run_id=run.id)
    ledger.registry.move(
        "tumours", "champion", first.version, who="me", why="the first", evidence={"auc": 0.9}
    )
    assert ledger.registry.resolve("tumours@champion") == first
    assert ledger.registry.resolve("tumours@1.0.0") == first
    with pytest.raises(NotFoundError, match="tumours has no alias 'latest'; it has champion"):
        ledger.registry.resolve("tumours@latest")
    with pytest.raises(NotFoundError, match="holds no model 'tumuors', but tumours"):
        ledger.registry.resolve("tumuors@champion")
    with pytest.raises(NotFoundError, match=r"no tumours 3\.0\.0; the ledger holds 1\.0\.0"):
        ledger.registry.resolve("tumours@3.0.0")
    with pytest.raises(NotFoundError, match=r"no tumours@1: .* the ledger holds 1\.0\.0"):
        ledger.registry.resolve("tumours@1")
    with pytest.raises(NotFoundError, match="no model 'tumuors'"):
        ledger.registry.resolve("tumuors@1")
    with pytest.raises(NotFoundError, match="write MODEL@ALIAS"):
        ledger.registry.resolve("tumours")


@pytest.mark.parametrize("name", ["a@b", "my model/v1", "../x", "", "-x", "flüge"])
def test_a_model_that_nothing_could_name_is_not_registered(
    ledger: Ledger, run: Run, name: str
) -> None:
    # a@b was made champion, and a@b@champion was refused as alias b@champion of a.
    with pytest.raises(ValueError, match=f"model '{name}' cannot be part of a URL"):
        ledger.registry.register(name, bundle="b", signature="{}", run_id=run.id)
    with pytest.raises(ValueError, match=f"dataset '{name}' cannot be part of a URL"):
        TableSchema(dataset=name, target="y", event_time="at", features=())
    assert ledger.registry.models() == []


def test_an_alias_cannot_name_a_version_that_does_not_exist(ledger: Ledger, run: Run) -> None:
    with pytest.raises(NotFoundError):
        ledger.registry.move(
            "tumours", "champion", Version(1, 0, 0), who="me", why="no", evidence={}
        )
    assert ledger.registry.moves("tumours") == []
    assert ledger.decisions.list(model="tumours") == []
