"""The nodes of one installation."""

from __future__ import annotations

from raymlops.coordination.zookeeper.key_value import ZooKeeperKeyValue
from raymlops.coordination.zookeeper.lock import ZooKeeperLock
from raymlops.coordination.zookeeper.session import ZooKeeperSession
from raymlops.coordination.zookeeper.writes import Writes


class ZooKeeperBackend:
    """Locks and keys as nodes below the session's root.

    What a process holds is an ephemeral node, which the ensemble removes when it has not heard of
    the process for the session's timeout.
    """

    def __init__(self, session: ZooKeeperSession) -> None:
        self._session = session
        self._writes = Writes(session)

    def lock(self, path: str, *, name: str, owner: str) -> ZooKeeperLock:
        return ZooKeeperLock(self._session, f"{self._session.root}/{path}", name=name, owner=owner)

    def key_value(self, path: str) -> ZooKeeperKeyValue:
        return ZooKeeperKeyValue(self._session, self._writes, f"{self._session.root}/{path}")

    def close(self) -> None:
        self._session.close()
