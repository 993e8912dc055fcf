"""Where a workspace has what it keeps, told to the actors of a cluster, which run elsewhere."""

from __future__ import annotations

from raymlops.config import Configured, SecretUrl
from raymlops.operate.settings import LedgerSettings, Settings, StorageSettings
from raymlops.operate.workspace import Workspace


def site_of(workspace: Workspace) -> Settings:
    """Home, ledger, store and locks; all else is default."""
    return Settings(
        home=str(workspace.home),
        ledger=LedgerSettings(url=SecretUrl(workspace.ledger_url)),
        storage=StorageSettings(uri=SecretUrl(workspace.store_uri)),
        coordination=workspace.settings.coordination,
    )


def workspace_at(settings: Settings) -> Workspace:
    """The workspace of a site, to which what else an actor needs may have been added."""
    return Workspace(Configured(settings=settings, origins={}, shown={}))
