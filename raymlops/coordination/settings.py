"""Where coordination happens, and the coordinator for it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from raymlops.config import Secret
from raymlops.coordination.coordinator import Coordinator
from raymlops.coordination.embedded import EmbeddedBackend

_MOST_S = 24 * 60 * 60


@dataclass(frozen=True, kw_only=True)
class CoordinationSettings:
    """`url` is zookeeper://HOST:PORT,HOST:PORT/ROOT, with a root of its own for each installation;
    None is this machine alone, with no server.

    With a `user` nobody else may see or change the nodes. A holder that was not heard of for
    `session_timeout_s` loses what it holds.
    """

    url: str | None = None
    user: str | None = None
    password: Secret | None = None
    session_timeout_s: float = 10.0

    def __post_init__(self) -> None:
        if self.url is not None:
            _check_url(self.url)
        if (self.user is None) != (self.password is None):
            raise ValueError("user and password go together; one of them is missing")
        if self.user is not None and ":" in self.user:
            raise ValueError(f"user '{self.user}' has a colon, which ends a user's name")
        if not 0 < self.session_timeout_s <= _MOST_S:
            raise ValueError(
                f"session_timeout_s is {self.session_timeout_s}; it must be above 0, and at most "
                f"{_MOST_S}: so long nobody takes over from a holder that died"
            )

    @property
    def hosts(self) -> str:
        """HOST:PORT,HOST:PORT of the URL."""
        return urlsplit(self.url or "").netloc

    @property
    def root(self) -> str:
        """/ROOT of the URL."""
        return urlsplit(self.url or "").path.rstrip("/")


def connect_coordinator(settings: CoordinationSettings, folder: Path) -> Coordinator:
    """The coordinator that the settings ask for; `folder` is for the one without a server.

    Raises:
        CoordinationError: no server answered in time.
    """
    if settings.url is None:
        return Coordinator(EmbeddedBackend(folder))
    # Only who uses ZooKeeper pays for importing it.
    from raymlops.coordination.zookeeper import ZooKeeperBackend
    from raymlops.coordination.zookeeper.session import ZooKeeperSession

    session = ZooKeeperSession(
        hosts=settings.hosts,
        root=settings.root,
        session_timeout_s=settings.session_timeout_s,
        user=settings.user,
        password=settings.password.reveal() if settings.password else None,
    )
    session.open()
    return Coordinator(ZooKeeperBackend(session))


def _check_url(url: str) -> None:
    parts = urlsplit(url)
    shown = re.sub("//[^/]*@", "//", url)  # without what may be a password
    if parts.scheme != "zookeeper" or not parts.netloc:
        raise ValueError(f"url is '{shown}'; write zookeeper://HOST:PORT/ROOT")
    if "@" in parts.netloc:
        raise ValueError(
            f"url '{shown}' has a user in it; set coordination.user and .password instead"
        )
    if not all(parts.path.strip("/").split("/")):
        raise ValueError(
            f"url '{shown}' needs a root for this installation: zookeeper://HOST:PORT/ROOT"
        )
