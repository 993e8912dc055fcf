"""Results in the store, where every replica finds them: one file each, pending or done."""

from __future__ import annotations

import re
from dataclasses import dataclass

import orjson

from raymlops.errors import MissingFileError, RequestError
from raymlops.serve.deferred.policy import DeferredPolicy
from raymlops.serve.web import Response
from raymlops.storage import Files

_OVERLOADED = (429, 503)

_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")


@dataclass(frozen=True, kw_only=True)
class Kept:
    """What is known of a request, since `at`; `response` is None while it is pending."""

    at: float
    response: Response | None = None

    @property
    def may_pass(self) -> bool:
        """Whether the same request, asked again, may be answered: there was too much to do."""
        return self.response is not None and self.response.status in _OVERLOADED

    def to_bytes(self) -> bytes:
        """A line of JSON, and the body behind it."""
        head: dict[str, object] = {"at": self.at}
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
        if "status" not in head:
            return cls(at=head["at"])
        headers = tuple((name, value) for name, value in head["headers"])
        response = Response(head["status"], body, head["content_type"], headers)
        return cls(at=head["at"], response=response)


class Results:
    """The results of `model` below `results/` of the store; every method blocks.

    Time is passed in, in seconds of Unix time, since replicas on several nodes compare it.
    """

    def __init__(self, files: Files, model: str, policy: DeferredPolicy) -> None:
        self._files = files
        self._folder = f"results/{model}"
        self._policy = policy
        self._lasting: dict[str, float] = {}

    def begin(self, id: str, now: float) -> bool:
        """Notes that `id` is being worked on; False when it is, or is done, already. What met an
        overloaded server is not done.

        Of several who begin one id at once one is told True, as far as `Files.create` says so.
        """
        name, pending = self._name(id), Kept(at=now).to_bytes()
        if self._files.create(name, pending):
            return True
        found = self._find(id, now)
        if found is not None and not found.may_pass:
            return False
        self._files.write(name, pending)
        return True

    def finish(self, id: str, response: Response, now: float) -> None:
        self._files.write(self._name(id), Kept(at=now, response=response).to_bytes())

    def get(self, id: str, now: float) -> Response | None:
        """The response; None while it is pending.

        Raises:
            RequestError: 404 when there is no such result any more.
        """
        kept = self._find(id, now)
        if kept is None:
            raise RequestError(
                404,
                f"there is no result {id}: it was never asked for, is older than "
                f"{self._policy.ttl_s:g} s, or was lost with its replica; ask again under that id",
            )
        return kept.response

    def forget(self, id: str) -> None:
        self._files.delete(self._name(id))

    def sweep(self, now: float) -> int:
        """Removes what is too old; returns how many.

        A result that was found once is read again when its time has come, and not before: what
        many clients have asked for is much to read.
        """
        ids = [name.rpartition("/")[2] for name in self._files.list(f"{self._folder}/")]
        self._lasting = {id: ends for id in ids if (ends := self._lasting.get(id, now)) > now}
        return sum(self._remove_if_old(id, now) for id in ids if id not in self._lasting)

    def _remove_if_old(self, id: str, now: float) -> bool:
        kept = self._find(id, now)
        if kept is None:
            self.forget(id)  # before it is asked for again, as far as that can be
        elif kept.response is not None:
            self._lasting[id] = kept.at + self._policy.ttl_s
        return kept is None

    def _find(self, id: str, now: float) -> Kept | None:
        try:
            kept = Kept.from_bytes(self._files.read(self._name(id)))
        except MissingFileError:
            return None
        lasts_s = self._policy.lost_after_s if kept.response is None else self._policy.ttl_s
        return kept if now - kept.at < lasts_s else None

    def _name(self, id: str) -> str:
        if _ID.fullmatch(id) is None:
            raise RequestError(
                400, f"a result's id has up to 64 letters, digits, _ and -; it is {id[:80]!r}"
            )
        return f"{self._folder}/{id}"
