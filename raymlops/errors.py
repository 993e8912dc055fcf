"""Every error raymlops raises on purpose.

    RaymlopsError
    ├── ConfigError          a setting is unknown, of the wrong type or impossible
    ├── StorageError         a store cannot be reached or holds no such object
    │   ├── IntegrityError   bytes differ from the digest that was recorded for them
    │   ├── MissingFileError there is no such file or blob
    │   └── UnavailableError a server did not answer, however often it was asked
    ├── CoordinationError    a lock or an election was lost
    │   └── StaleLeaseError  a write carries the token of a replaced holder
    ├── ClusterError         Ray cannot be started, reached or asked
    ├── LedgerError          a record contradicts the ledger, or its database is away
    │   ├── NotFoundError    no such run, version, alias, request ...
    │   ├── ConflictError    the version exists already
    │   ├── RefusedError     a row can never be stored, however often it is sent
    │   ├── QueryError       a search expression cannot be understood
    │   └── MirrorError      a mirror of the ledger cannot be reached, or refuses a row
    ├── DataError            a dataset is malformed
    │   └── ExpectationError a dataset broke rules; holds one violation a rule
    ├── SignatureError       columns do not fit a model's signature; names the field
    ├── ModelError           a bundle cannot be written or loaded
    │   ├── ParityError      a saved model predicts differently from its original
    │   └── UntrustedError   loading it would run code nobody vouched for; holds the digest
    ├── TrainingError        a training run ended without a model
    │   ├── PlanError        a parallel plan does not fit model, batch or cluster
    │   ├── NoRoomError      others kept the room that its workers waited for
    │   ├── LostWorkerError  a worker, or what leads them, was lost
    │   ├── LostShardError   a parameter server's shard cannot be reached
    │   └── OutOfMemoryError a worker was killed, or gave up, for want of memory
    ├── RequestError         a request is refused; carries the HTTP status
    │   └── EngineError      the engine that had it died, through no fault of the request
    └── ReleaseError         a release cannot start or go on
        └── UnservableError  a replica cannot load what it was told to serve

Errors cross process boundaries by pickle: each hands every constructor argument to
`super().__init__`, or it would come back as another type.
"""

from __future__ import annotations

import errno

NO_ROOM = (errno.ENOSPC, errno.EDQUOT)
"""What the system says where a disk, or somebody's part of it, is full."""

TAKES_NOTHING = (*NO_ROOM, errno.EROFS, errno.EIO)
"""And where it is read-only, as one becomes that could not be written, or is broken."""


class RaymlopsError(Exception):
    """The base of every error raymlops raises on purpose."""


class ConfigError(RaymlopsError):
    """A setting is unknown, of the wrong type or impossible."""


class StorageError(RaymlopsError):
    """A store cannot be reached or holds no such object."""


class IntegrityError(StorageError):
    """Bytes differ from the digest that was recorded for them."""


class MissingFileError(StorageError):
    """There is no such file or blob."""


class UnavailableError(StorageError):
    """A server did not answer or was overloaded; the same call may succeed later."""


class CoordinationError(RaymlopsError):
    """A lock or an election was lost, or its holder is no longer the newest."""


class StaleLeaseError(CoordinationError):
    """A write carries the token of a holder that a newer one has replaced."""


class ClusterError(RaymlopsError):
    """Ray cannot be started, reached or asked."""


class LedgerError(RaymlopsError):
    """A record contradicts what the ledger holds, or the database does not answer."""


class NotFoundError(LedgerError):
    """The ledger holds no such run, version, alias or request."""


class ConflictError(LedgerError):
    """What was to be added exists already."""


class RefusedError(LedgerError):
    """A row can never be stored as it is, however often it is sent."""


class QueryError(LedgerError):
    """A search expression cannot be understood; says where, and what can be asked."""


class MirrorError(LedgerError):
    """A mirror of the ledger cannot be reached, or refuses a row."""


class DataError(RaymlopsError):
    """A dataset is malformed."""


class ExpectationError(DataError):
    """A dataset broke its expectations; `violations` holds a line for each broken rule.

    `digest` names the content whose report is in the ledger; empty when nothing was recorded.
    """

    def __init__(self, dataset: str, violations: tuple[str, ...], digest: str = "") -> None:
        super().__init__(dataset, violations, digest)
        self.dataset = dataset
        self.violations = violations
        self.digest = digest

    def __str__(self) -> str:
        lines = [f"{self.dataset} is refused:", *self.violations]
        if self.digest:
            lines.append(f"the whole report: raymlops data show {self.dataset}@{self.digest[:12]}")
        return "\n  ".join(lines)


class SignatureError(RaymlopsError):
    """Columns do not fit a model's signature; `field` is the one at fault.

    Where a value is the problem it stands between `before` and `after`, since not everybody who
    is told of the error may see it.
    """

    def __init__(self, field: str, before: str, value: str = "", after: str = "") -> None:
        super().__init__(field, before, value, after)
        self.field = field
        self.before = before
        self.value = value
        self.after = after

    @property
    def problem(self) -> str:
        return f"{self.before}{self.value}{self.after}"

    def __str__(self) -> str:
        return f"field '{self.field}': {self.problem}"

    def hiding(self, stand_in: str) -> SignatureError:
        """The same with `stand_in` for the value, if there is one."""
        value = self.value and stand_in
        return SignatureError(self.field, self.before, value, self.after)


class ModelError(RaymlopsError):
    """A bundle cannot be written or loaded."""


class ParityError(ModelError):
    """A saved model predicts differently from the model it was saved from."""


class UntrustedError(ModelError):
    """Loading could run code, because of `reason`, and the ledger did not record `digest`."""

    def __init__(self, format: str, digest: str, reason: str) -> None:
        super().__init__(format, digest, reason)
        self.format = format
        self.digest = digest
        self.reason = reason

    def __str__(self) -> str:
        return (
            f"{self.format}: {self.reason}, and the ledger has not recorded digest {self.digest}; "
            "nothing was loaded. If you know who made the file: "
            "`raymlops models trust FILE --why REASON`"
        )


class TrainingError(RaymlopsError):
    """A training run ended without a model."""


class PlanError(TrainingError):
    """A parallel plan does not fit; `problems` says why, `nearest` which plans would."""

    def __init__(self, plan: str, problems: tuple[str, ...], nearest: tuple[str, ...]) -> None:
        super().__init__(plan, problems, nearest)
        self.plan = plan
        self.problems = problems
        self.nearest = nearest

    def __str__(self) -> str:
        way_out = f"nearest that fit: {'; '.join(self.nearest)}" if self.nearest else "none fits"
        return "\n  ".join([f"plan {self.plan} cannot run:", *self.problems, way_out])


class NoRoomError(TrainingError):
    """The cluster has room for a training's workers, and others kept it as long as it waited."""


class LostWorkerError(TrainingError):
    """A worker of a training, or the actor that leads them, was lost; another time none may be."""


class LostShardError(TrainingError):
    """A shard of a parameter server cannot be reached: it, or its machine, has died."""


class OutOfMemoryError(TrainingError):
    """A worker was killed, or gave up, for want of memory."""


class RequestError(RaymlopsError):
    """A request is refused with HTTP `status`; it may succeed after `retry_after_s`, if given."""

    def __init__(self, status: int, message: str, retry_after_s: float | None = None) -> None:
        super().__init__(status, message, retry_after_s)
        self.status = status
        self.message = message
        self.retry_after_s = retry_after_s

    def __str__(self) -> str:
        return self.message


class EngineError(RequestError):
    """The engine that had a request has died or hangs; another one may answer it."""


class ReleaseError(RaymlopsError):
    """A release cannot start or go on."""


class UnservableError(ReleaseError):
    """A replica has tried to load what it was told to serve, and cannot."""
