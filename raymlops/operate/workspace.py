"""A workspace: the settings of one place, with its ledger, store, locks and Ray."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from raymlops.cluster import Session, connect
from raymlops.cluster.uploads import refuse_upload
from raymlops.config import Configured, SecretUrl, is_utf8
from raymlops.coordination import Coordinator, connect_coordinator
from raymlops.data import TableSchema
from raymlops.errors import ConfigError
from raymlops.ledger import Ledger, absolute_url, open_ledger, sqlite_url
from raymlops.operate.settings import Settings, load_settings
from raymlops.storage import Copies, Store, absolute_uri


@dataclass(frozen=True)
class Workspace:
    """Opened from configuration files; ledger and store are reached at their first use.

    with Workspace.open("configs/flights.yaml") as workspace, workspace.connect():
        training = train(workspace)
    """

    configured: Configured[Settings]

    @classmethod
    def open(
        cls,
        *paths: str | Path,
        environment: str | None = None,
        overrides: Iterable[str] = (),
    ) -> Workspace:
        """Raises ConfigError when a file is missing or a setting wrong, see `load_settings`, or
        home can be no folder, or one that Ray deletes."""
        files = [Path(path) for path in paths]
        opened = cls(load_settings(files, environment=environment, overrides=overrides))
        _check_home(opened.home)
        return opened

    @property
    def settings(self) -> Settings:
        """What the files, variables and overrides came to."""
        return self.configured.settings

    @property
    def home(self) -> Path:
        """The folder, absolute, of what is not kept elsewhere."""
        return Path(self.settings.home).expanduser().resolve()

    @property
    def ledger_url(self) -> str:
        """Absolute, so that it holds in any folder; with its password: never print it."""
        if self.settings.ledger.url is None:
            return sqlite_url(self.home / "ledger.db")
        return absolute_url(self.settings.ledger.url.reveal())

    @property
    def shown_ledger(self) -> str:
        """Which one it is, for people: without a password."""
        return f"the ledger {SecretUrl(self.ledger_url)}"

    @property
    def store_uri(self) -> str:
        """Absolute; with its keys: never print it."""
        if self.settings.storage.uri is None:
            return str(self.home / "store")
        return absolute_uri(self.settings.storage.uri.reveal())

    @cached_property
    def ledger(self) -> Ledger:
        return open_ledger(self.ledger_url)

    @cached_property
    def store(self) -> Store:
        return Store(self.store_uri)

    @property
    def copies(self) -> Copies | None:
        """What each node keeps of a store that is not on its own disk."""
        size_mb = self.settings.storage.copies_mb
        if size_mb == 0 or self.store.files.is_local:
            return None
        return Copies(folder=self.home / "copies", max_bytes=size_mb << 20)

    @cached_property
    def coordinator(self) -> Coordinator:
        return connect_coordinator(self.settings.coordination, self.home / "coordination")

    @property
    def model(self) -> str:
        """Raises ConfigError when the settings describe no model."""
        if self.settings.model is None:
            raise ConfigError(
                "the settings name no model; give a file such as configs/flights.yaml"
            )
        return self.settings.model

    @property
    def schema(self) -> TableSchema:
        """Raises ConfigError when the settings describe no table."""
        if self.settings.data is None:
            raise ConfigError("the settings have no data; give a file such as configs/flights.yaml")
        return self.settings.data

    @contextmanager
    def connect(self) -> Iterator[Session]:
        """Ray as the settings ask for it, for the length of a block, and on it the mirror."""
        from raymlops.operate.mirror import start_mirror

        with connect(self.settings.cluster, home=self.home) as session:
            if "ledger" in self.__dict__:
                self.ledger.make()  # for workers and actors, which make none
            start_mirror(self)
            yield session

    def close(self) -> None:
        """Lets go of what was reached; whoever uses it again reaches it anew."""
        for name in ("coordinator", "ledger"):
            if (opened := self.__dict__.pop(name, None)) is not None:
                opened.close()

    def __enter__(self) -> Workspace:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _check_home(home: Path) -> None:
    refuse_upload(home)
    if not is_utf8(str(home)):
        raise ConfigError(
            f"home is {home}, which is no UTF-8, and its path is written down as text: name "
            "another folder by `home`, or --home"
        )
    there = next(path for path in (home, *home.parents) if os.path.exists(path))
    if not os.path.isdir(there):
        raise ConfigError(
            f"home is {home}, and {there} is a file: name a folder, or one to be made"
        )
