"""A session with an ensemble that goes on through lost connections, and knows when it was lost."""

from __future__ import annotations

import contextlib
import logging
import queue
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import Any

from kazoo.client import KazooClient
from kazoo.exceptions import (
    ConnectionClosedError,
    ConnectionLoss,
    NoAuthError,
    NoNodeError,
    OperationTimeoutError,
    SessionExpiredError,
    SessionMovedError,
)
from kazoo.handlers.threading import KazooTimeoutError, SequentialThreadingHandler
from kazoo.protocol.states import Callback, KazooState, WatchedEvent
from kazoo.retry import KazooRetry
from kazoo.security import CREATOR_ALL_ACL

from raymlops.coordination.base import Lease
from raymlops.coordination.deadline import Deadline
from raymlops.coordination.zookeeper.credentials import quiet_logger
from raymlops.errors import CoordinationError

# After these a request may or may not have been carried out.
INTERRUPTIONS = (ConnectionLoss, OperationTimeoutError, SessionExpiredError, SessionMovedError)

_logger = logging.getLogger(__name__)

Events = queue.SimpleQueue[WatchedEvent]


class _PromptHandler(SequentialThreadingHandler):  # type: ignore[misc]  # kazoo has no types
    """Tells of events in the thread that reads them: `on_event`, the only watcher there is, never
    blocks, and a thread in between would delay every hand-over of a lock."""

    def dispatch_callback(self, callback: Callback) -> None:
        callback.func(*callback.args)


class ZooKeeperSession:
    """All nodes lie below `root`; with a `user`, only that user may read or write them.

    The password crosses the network as it is: use it where the network is trusted.
    """

    def __init__(
        self,
        *,
        hosts: str,
        root: str,
        session_timeout_s: float,
        user: str | None = None,
        password: str | None = None,
    ) -> None:
        self.root = root
        self._hosts = hosts
        self._session_timeout_s = session_timeout_s
        self.client = KazooClient(
            hosts=hosts,
            timeout=session_timeout_s,
            auth_data=[("digest", f"{user}:{password}")] if user else None,
            default_acl=CREATOR_ALL_ACL if user else None,
            handler=_PromptHandler(),
            logger=quiet_logger(),
            # Soon enough that one dead server of three costs no session.
            connection_retry=KazooRetry(
                max_tries=-1, delay=0.02, backoff=2, max_delay=min(1.0, session_timeout_s / 5)
            ),
        )
        self.client.add_listener(self._on_state)
        self._changed = threading.Condition()
        self._is_away = False
        self._is_closed = False
        self._num_lost = 0
        self._leases: set[Lease] = set()
        self._waiting: defaultdict[str, set[Events]] = defaultdict(set)
        self._abandoned: set[tuple[str, str]] = set()
        self._folders: set[str] = set()

    def open(self) -> None:
        """Raises CoordinationError when no server answers in time."""
        if not self.client.start_async().wait(self._patience_s):
            self.close()
            raise CoordinationError(
                f"no ZooKeeper answered at {self._hosts} within {self._patience_s:g} s; "
                "see coordination.url"
            )
        self.ensure(self.root)

    def close(self) -> None:
        self._is_closed = True
        self.client.stop()
        self.client.close()

    @property
    def number(self) -> int:
        """Grows when the session is lost and another takes its place."""
        return self._num_lost

    @property
    def id(self) -> int | None:
        """What the ensemble calls this session; None while there is no connection."""
        identity = self.client.client_id
        return None if identity is None else int(identity[0])

    def ask(
        self, request: Callable[..., Any], *args: Any, deadline: Deadline | None = None, **more: Any
    ) -> Any:
        """The answer to one of the client's asynchronous requests.

        Raises:
            CoordinationError: no answer came in time, or the user may not do this.
            KazooException: one of INTERRUPTIONS, or what the ensemble answered.
        """
        left_s = deadline.left_s if deadline else None
        # Also who does not want to wait for others has to wait for the server.
        wait_s = self._patience_s if left_s is None else max(left_s, self._session_timeout_s / 3)
        try:
            return request(*args, **more).get(timeout=min(wait_s, self._patience_s))
        except KazooTimeoutError as error:
            raise CoordinationError(
                f"ZooKeeper at {self._hosts} gave no answer; the request may still be carried out"
            ) from error
        except NoAuthError as error:
            raise CoordinationError(
                f"the nodes below {self.root or '/'} belong to another user; "
                "see coordination.user and coordination.password"
            ) from error
        except ConnectionClosedError as error:
            raise CoordinationError("the coordinator was closed") from error

    def read(self, request: Callable[..., Any], *args: Any, **more: Any) -> Any:
        """Like `ask`, and asks again after an interruption."""
        deadline = Deadline(self._patience_s)
        while True:
            try:
                return self.ask(request, *args, deadline=deadline, **more)
            except INTERRUPTIONS:
                self.wait_connected(deadline)

    def ensure(self, folder: str) -> None:
        """Creates the node `folder` and those above it where they are missing."""
        if folder and folder not in self._folders:
            self.read(self.client.ensure_path_async, folder)
            self._folders.add(folder)

    def recreate(self, folder: str) -> None:
        """`ensure` after the node was found to be missing."""
        self._folders.discard(folder)
        self.ensure(folder)

    def wait_connected(self, deadline: Deadline | None = None) -> None:
        """Raises CoordinationError when there is no connection before the deadline.

        The client is asked, which knows of a lost connection before it interrupts requests; it
        tells `_on_state` of it only afterwards.
        """
        wait_s = (deadline or Deadline(self._patience_s)).left_s
        with self._changed:
            if not self._changed.wait_for(lambda: self.client.connected, wait_s):
                raise CoordinationError(f"there is no connection to ZooKeeper at {self._hosts}")

    @contextlib.contextmanager
    def granting(self, lease: Lease, *, number: int) -> Iterator[None]:
        """Ends the lease with the block, or with session `number`, whichever is first."""
        with self._changed:
            self._leases.add(lease)
            if number != self._num_lost:
                lease.end()
        try:
            yield
        finally:
            lease.end()
            with self._changed:
                self._leases.discard(lease)

    @contextlib.contextmanager
    def watching(self, path: str) -> Iterator[Events]:
        """Events of a node on which requests left `on_event`, and of a lost connection."""
        events: Events = queue.SimpleQueue()
        with self._changed:
            self._waiting[path].add(events)
        try:
            yield events
        finally:
            with self._changed:
                self._waiting[path].discard(events)
                if not self._waiting[path]:
                    del self._waiting[path]

    def on_event(self, event: WatchedEvent) -> None:
        """The only watcher the client is given: it keeps one of a kind a node, so that waits that
        time out leave nothing behind in it."""
        with self._changed:
            if event.path is None:  # the connection was lost, and with it every watch
                woken = [events for each in self._waiting.values() for events in each]
            else:
                woken = list(self._waiting.get(event.path, ()))
        for events in woken:
            events.put(event)

    def abandon(self, folder: str, prefix: str) -> None:
        """Removes the nodes of `folder` that start with `prefix`, at the latest when the connection
        is back: where a request was interrupted, nobody knows whether there is one."""
        with self._changed:
            self._abandoned.add((folder, prefix))
        if self.client.connected:
            self.client.handler.spawn(self._sweep)

    def _sweep(self) -> None:
        for folder, prefix in tuple(self._abandoned):
            try:
                self.ask(self.client.sync_async, folder)
                for node in self.ask(self.client.get_children_async, folder):
                    if node.startswith(prefix):
                        self.ask(self.client.delete_async, f"{folder}/{node}")
            except NoNodeError:
                pass
            except (*INTERRUPTIONS, CoordinationError):
                return  # the next connection tries again
            with self._changed:
                self._abandoned.discard((folder, prefix))

    def _on_state(self, state: str) -> None:
        if not self._is_closed:
            self._tell(state)
        with self._changed:
            if state == KazooState.LOST:
                self._num_lost += 1
                self._abandoned.clear()  # gone with the session
                for lease in self._leases:
                    lease.end()
            self._changed.notify_all()
            if state == KazooState.CONNECTED and self._abandoned:
                self.client.handler.spawn(self._sweep)

    def _tell(self, state: str) -> None:
        if state == KazooState.SUSPENDED:
            self._is_away = True
            _logger.warning("ZooKeeper at %s is away, and is asked again and again", self._hosts)
        elif state == KazooState.LOST:
            _logger.warning(
                "the session with ZooKeeper at %s was lost: its locks are held no longer",
                self._hosts,
            )
        elif self._is_away:
            self._is_away = False
            _logger.warning("ZooKeeper at %s is back", self._hosts)

    @property
    def _patience_s(self) -> float:
        """By then the session of a client without a connection is lost anyway."""
        return 2 * self._session_timeout_s
