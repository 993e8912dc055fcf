"""Where a workspace has what it keeps, told to the actors of a cluster, which run elsewhere."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import make_url

from raymlops.config import Configured, SecretUrl
from raymlops.ledger import sqlite_url
from raymlops.operate.settings import LedgerSettings, Settings, StorageSettings
from raymlops.operate.workspace import Workspace


def site_of(workspace: Workspace) -> Settings:
    """Home, ledger, store and locks, with paths that hold in any folder; all else is default."""
    return Settings(
        home=str(workspace.home),
        ledger=LedgerSettings(url=absolute_url(workspace.ledger_url)),
        storage=StorageSettings(uri=SecretUrl(workspace.store_uri)),
        coordination=workspace.settings.coordination,
    )


def workspace_at(settings: Settings) -> Workspace:
    """The workspace of a site, to which what else an actor needs may have been added."""
    return Workspace(Configured(settings=settings, origins={}, shown={}))


def absolute_url(url: str) -> SecretUrl:
    """The same database, whatever folder it is asked from. A path stays as people write it: of a
    percent-encoded one MLflow makes a folder of that name."""
    if not url.startswith("sqlite") or not (database := make_url(url).database):
        return SecretUrl(url)
    driver = url.partition(":")[0].removeprefix("sqlite")
    _, mark, query = url.partition("?")
    path = sqlite_url(Path(database).resolve()).removeprefix("sqlite")
    return SecretUrl(f"sqlite{driver}{path}{mark}{query}")
