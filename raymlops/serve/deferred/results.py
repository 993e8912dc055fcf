"""Results in the store, where every replica finds them: one file each, pending or done."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import NamedTuple

import orjson

from raymlops.errors import MissingFileError, RequestError, StorageError
from raymlops.serve.deferred.policy import DeferredPolicy
from raymlops.serve.web import Response
from raymlops.storage import Files

_OVERLOADED = (429, 503)

_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")


@dataclass(frozen=True, kw_only=True)
class Kept:
    """What is known of a request, since `at`; `response` is None while it is pending.

    `asked` tells what it asked from what others do; empty where an earlier version kept it."""

    at: float
    response: Response | None = None
    asked: str = ""

    @property
    def may_pass(self) -> bool:
        """Whether the same request, asked again, may be answered: there was too much to do."""
        return self.response is not None and self.response.status in _OVERLOADED

    def to_bytes(self) -> bytes:
        """A line of JSON, and the body behind it."""
        head: dict[str, object] = {"at": self.at, "asked": self.asked}
        if self.response is None:
            return orjson.dumps(head)
        head |= {
            "status": self.response.status,
            "content_type": self.response.content_type,
            "headers": self.response.headers,
        }
        return orjson.dumps(head) + b"\n" + self.response.body

    @classmethod
    def from_bytes(cls, data: bytes) -> Kept:
        line, _, body = data.partition(b"\n")
        head = orjson.loads(line)
        at, asked = head["at"], head.get("asked", "")
        if "status" not in head:
            return cls(at=at, asked=asked)
        headers = tuple((name, value) for name, value in head["headers"])
        response = Response(head["status"], body, head["content_type"], headers)
        return cls(at=at, response=response, asked=asked)


class Ticket(NamedTuple):
    """By which a result is found: an id, and whose it is, as a text that can be part of a file's
    name; others may have a result of that id, too. `asked` is what it is the result of, empty
    for who only looks."""

    id: str
    owner: str = ""
    asked: str = ""


class Results:
    """The results of `model` below `results/` of the store; every method blocks.

    Time is passed in, in seconds of Unix time, since replicas on several nodes compare it.
    """

    def __init__(self, files: Files, model: str, policy: DeferredPolicy) -> None:
        self._files = files
        self._folder = f"results/{model}"
        self._policy = policy
        self._lasting: dict[str, float] = {}

    def begin(self, ticket: Ticket, now: float) -> bool:
        """Notes that it is being worked on; False when it is, or is done, already. What met an
        overloaded server is not done.

        Of several who begin one id at once one is told True, as far as `Files.create` says so.

        Raises:
            RequestError: 409 when the same owner has asked something else under that id.
        """
        name, pending = self._name(ticket), Kept(at=now, asked=ticket.asked).to_bytes()
        if self._files.create(name, pending, private=True):
            return True
        found = self._find(name, now)
        if found is not None and found.asked and found.asked != ticket.asked:
            raise RequestError(
                409,
                f"another request was submitted as {ticket.id}; give this one an id of its own",
            )
        if found is not None and not found.may_pass:
            return False
        self._files.write(name, pending, private=True)
        return True

    def finish(self, ticket: Ticket, response: Response, now: float) -> None:
        kept = Kept(at=now, response=response, asked=ticket.asked)
        self._files.write(self._name(ticket), kept.to_bytes(), private=True)

    def get(self, ticket: Ticket, now: float) -> Response | None:
        """The response; None while it is pending.

        Raises:
            RequestError: 404 when there is no such result any more.
        """
        kept = self._find(self._name(ticket), now)
        if kept is None:
            raise RequestError(
                404,
                f"there is no result {ticket.id}: it was never asked for, is older than "
                f"{self._policy.ttl_s:g} s, or was lost with its replica; ask again under that id",
            )
        return kept.response

    def forget(self, ticket: Ticket) -> None:
        self._files.delete(self._name(ticket))

    def sweep(self, now: float) -> int:
        """Removes what is too old; returns how many.

        A result that was found once is read again when its time has come, and not before: what
        many clients have asked for is much to read.
        """
        names = [each for each in self._files.list(f"{self._folder}/") if _is_result(each)]
        lasting = {name: self._lasting.get(name, now) for name in names}
        self._lasting = {name: ends for name, ends in lasting.items() if ends > now}
        return sum(self._remove_if_old(name, now) for name in names if name not in self._lasting)

    def _remove_if_old(self, name: str, now: float) -> bool:
        kept = self._find(name, now)
        if kept is None:
            self._files.delete(name)  # before it is asked for again, as far as that can be
        elif kept.response is not None:
            self._lasting[name] = kept.at + self._policy.ttl_s
        return kept is None

    def _find(self, name: str, now: float) -> Kept | None:
        try:
            kept = Kept.from_bytes(self._files.read(name))
        except MissingFileError:
            return None
        except (ValueError, LookupError, TypeError) as error:
            raise StorageError(f"{name} is no result, remove it: {error!r}") from error
        lasts_s = self._policy.lost_after_s if kept.response is None else self._policy.ttl_s
        return kept if now - kept.at < lasts_s else None

    def _name(self, ticket: Ticket) -> str:
        id = ticket.id
        if _ID.fullmatch(id) is None:
            raise RequestError(
                400, f"a result's id has up to 64 letters, digits, _ and -; it is {id[:80]!r}"
            )
        return "/".join(filter(None, (self._folder, ticket.owner, id)))


def _is_result(name: str) -> bool:
    """Whether it is named as one; what else lies there, such as .DS_Store, is somebody else's."""
    return _ID.fullmatch(name.rpartition("/")[2]) is not None
