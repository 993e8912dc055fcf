"""A queue of ephemeral sequential nodes, each of which watches the one before it.

The recipe of ZooKeeper's documentation, without its traps. A create whose answer was lost may have
made a node, which would be waited for by its own maker: so each attempt has a unique prefix, and
finds its node by it, or has it removed. The token is the node's czxid, the transaction that created
it: the ensemble numbers all its transactions in one order that survives restarts, elections and the
removal of every node of this lock, where a sequence number would start at 0 again.

A holder releases by changing its node and deleting it in one transaction. Whoever watches the node
hears of the first, a change, and so knows that it was the holder who left and that the turn is its
own, without asking who else is in the queue. A place that was given up, or whose session ended, is
only deleted: then somebody older may be left.
"""

from __future__ import annotations

import contextlib
import queue
import uuid
from collections.abc import Iterator

from kazoo.exceptions import NoNodeError, SessionExpiredError
from kazoo.protocol.states import EventType

from raymlops.coordination.base import Holder, Lease
from raymlops.coordination.deadline import Deadline
from raymlops.coordination.zookeeper.order import before, oldest
from raymlops.coordination.zookeeper.session import INTERRUPTIONS, ZooKeeperSession
from raymlops.errors import CoordinationError


class ZooKeeperLock:
    """Members of the family `Lock`; `folder` is the node above the queue."""

    def __init__(self, session: ZooKeeperSession, folder: str, *, name: str, owner: str) -> None:
        self._session = session
        self._folder = folder
        self._name = name
        self._owner = owner

    @contextlib.contextmanager
    def hold(self, *, timeout_s: float | None = None) -> Iterator[Lease]:
        deadline = Deadline(timeout_s)
        place = _Place(self._session, self._folder, self._owner)
        try:
            try:
                place.wait_for_turn(deadline)
            except _TooLateError as error:
                raise CoordinationError(self._refusal(deadline)) from error
            lease = Lease(name=self._name, token=place.token, confirm=place.stands)
            with self._session.granting(lease, number=place.session_number):
                yield lease
        finally:
            place.leave()

    def holder(self) -> Holder | None:
        client = self._session.client
        with contextlib.suppress(NoNodeError):  # of the folder: nobody ever held this lock
            while head := oldest(self._session.read(client.get_children_async, self._folder)):
                with contextlib.suppress(NoNodeError):  # of the head: another has its place now
                    owner, stat = self._session.read(client.get_async, f"{self._folder}/{head}")
                    return Holder(owner=owner.decode(), token=stat.czxid)
        return None

    def _refusal(self, deadline: Deadline) -> str:
        holder = self.holder()
        who = holder.owner if holder else "one that gave it up just now"
        return f"'{self._name}' is held by {who}; waited {deadline.timeout_s:g} s"


class _TooLateError(Exception):
    """The deadline came before the turn."""


class _Place:
    """One attempt to get the lock: a node in the queue, once `wait_for_turn` has made it."""

    def __init__(self, session: ZooKeeperSession, folder: str, owner: str) -> None:
        self.token = 0
        self.session_number = session.number
        self._session = session
        self._client = session.client
        self._folder = folder
        self._owner = owner.encode()
        self._prefix = f"{uuid.uuid4().hex}~"
        self._node = ""
        self._asked = False  # a create was sent
        self._answered = False  # and its answer is known
        self._held = False

    def wait_for_turn(self, deadline: Deadline) -> None:
        while not self._held:
            try:
                nodes = self._enter(deadline)
                while older := before(self._node, nodes):
                    news = self._watch(older[-1], deadline)
                    was_head = len(older) == 1 and news == EventType.DELETED
                    if was_head or news == EventType.CHANGED:
                        break  # nobody can come in between
                    nodes = self._session.ask(self._client.get_children_async, self._folder)
                    if self._node not in nodes:
                        raise SessionExpiredError
                self._held = True
            except INTERRUPTIONS:
                self._answered = False
                self._session.wait_connected(deadline)

    def stands(self) -> bool:
        """Whether the node is still there; CoordinationError when nobody can say just now."""
        at_once = Deadline(0)
        self._session.wait_connected(at_once)
        path = f"{self._folder}/{self._node}"
        try:
            stat = self._session.ask(self._client.exists_async, path, deadline=at_once)
        except INTERRUPTIONS as error:
            raise CoordinationError("the connection to ZooKeeper was lost") from error
        return stat is not None and stat.czxid == self.token

    def leave(self) -> None:
        """Removes the node, also one that nobody is sure of."""
        is_gone = not self._asked
        try:
            if self._answered:
                self._remove()
                is_gone = True
        except NoNodeError:
            is_gone = True
        except (*INTERRUPTIONS, CoordinationError):
            pass
        finally:
            if not is_gone:
                self._session.abandon(self._folder, self._prefix)

    def _remove(self) -> None:
        path = f"{self._folder}/{self._node}"
        if not self._held:
            self._session.ask(self._client.delete_async, path)
            return
        release = self._client.transaction()
        release.set_data(path, self._owner)
        release.delete(path)
        for result in self._session.ask(release.commit_async):
            if isinstance(result, NoNodeError):
                raise result

    def _enter(self, deadline: Deadline) -> list[str]:
        """All nodes of the queue, ours among them."""
        if self._asked and (found := self._find(deadline)) is not None:
            return found
        self._session.ensure(self._folder)
        self.session_number = self._session.number
        self._asked = True
        created = self._client.create_async(
            f"{self._folder}/{self._prefix}",
            self._owner,
            ephemeral=True,
            sequence=True,
            include_data=True,
        )
        # Sent without waiting: a session's requests are carried out in order.
        listed = self._client.get_children_async(self._folder)
        try:
            path, stat = self._session.ask(lambda: created, deadline=deadline)
        except NoNodeError:  # somebody removed the folder
            self._session.recreate(self._folder)
            return self._enter(deadline)
        self._node, self.token, self._answered = path.rpartition("/")[2], stat.czxid, True
        nodes: list[str] = self._session.ask(lambda: listed, deadline=deadline)
        return nodes

    def _find(self, deadline: Deadline) -> list[str] | None:
        """All nodes, if an earlier create made ours; the session may be another one by now."""
        number = self._session.number
        try:
            # The server we are connected to now may not have heard of it yet.
            self._session.ask(self._client.sync_async, self._folder, deadline=deadline)
            nodes: list[str] = self._session.ask(
                self._client.get_children_async, self._folder, deadline=deadline
            )
            for node in nodes:
                if node.startswith(self._prefix):
                    stat = self._session.ask(
                        self._client.exists_async, f"{self._folder}/{node}", deadline=deadline
                    )
                    if stat is not None and stat.ephemeralOwner == self._session.id:
                        self._node, self.token, self._answered = node, stat.czxid, True
                        self.session_number = number
                        return nodes
        except NoNodeError:
            pass
        return None

    def _watch(self, predecessor: str, deadline: Deadline) -> str:
        """Sleeps until `predecessor` was released (CHANGED) or is gone (DELETED), or the
        connection was lost (another type of event)."""
        path = f"{self._folder}/{predecessor}"
        with self._session.watching(path) as events:
            try:
                # Unlike `exists`, `get` leaves no watch behind when the node is gone already.
                self._session.ask(
                    self._client.get_async, path, watch=self._session.on_event, deadline=deadline
                )
                event = events.get(timeout=deadline.left_s)
            except NoNodeError:
                return str(EventType.DELETED)
            except queue.Empty as error:
                raise _TooLateError from error
            return str(event.type)
