"""What it means that workers failed: whether trying again can help, and whose fault it was."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

from raymlops.errors import LostWorkerError, OutOfMemoryError, TrainingError
from raymlops.train.workers.tracebacks import Raised, read_traceback, reason_of

Kind: TypeAlias = Literal["memory", "raised", "lost"]

# Texts, since what Ray hands on are texts of what was raised in another process.
_WANT_OF_MEMORY = (
    "running low on memory",
    "OutOfMemory",
    "MemoryError",
    "can't allocate memory",
    "not enough memory",
    "out of memory",
    "OOM when allocating",  # TensorFlow's
)
_DEATH = (
    "ActorDiedError",
    "ActorUnavailableError",
    "WorkerCrashedError",
    "NodeDiedError",
    "HealthCheckFailed",
    "HealthCheckTimeout",  # it lives, and has not answered for ten minutes
)
_LOST_PEER = (
    "gloo/transport",
    "Application timeout caused pair closure",  # gloo's, of all that follows a wait in vain
    "DistNetworkError",
    "Could not start gRPC server",  # TensorFlow's, when another process took its port
    "LostShardError",  # of a server that died with rank 0
)
# A user's own connections end with these as well.
_LOST_CONNECTION = (
    "Connection closed by peer",
    "Connection reset by peer",
    "Broken pipe",
    "Socket closed",
    "Connection refused",
)
_OURS = re.compile(r"raymlops\.errors\.\w+: ")
_BETWEEN_WORKERS = re.compile(r"[/\\](?:torch|tensorflow|raymlops[/\\]train)[/\\]")


@dataclass(frozen=True, kw_only=True)
class Failure:
    """Why an attempt ended: a worker was `lost` (killed, or its machine), ran out of `memory`, or
    `raised` an error of its own, which it would raise again.

    `reason` is what it raised and where in code that is of no library; `text` all it left behind,
    of which nothing more is worth reading where `is_told`: it is an error of raymlops, and not of
    code that somebody wrote. `rank` is None of one that failed before it knew its own.
    """

    kind: Kind
    rank: int | None
    reason: str
    text: str = ""
    is_told: bool = False

    @property
    def may_pass(self) -> bool:
        return self.kind == "lost"

    @property
    def who(self) -> str:
        return "a worker" if self.rank is None else f"worker {self.rank}"

    def error(
        self, run_id: str, restarts: int, *, lighter: str, step: int | None = None
    ) -> TrainingError:
        """What to raise when the run ends with it, and can be gone on with from that step;
        `lighter` is what takes less memory."""
        tried = f" after {restarts} restarts" if restarts else ""
        back = way_back(run_id, step)
        if self.kind == "memory":
            return OutOfMemoryError(
                f"run {run_id}: {self.who} ran out of memory{tried}: {self.reason}; use {lighter}"
                f"{back}"
            )
        if self.kind == "lost":
            return LostWorkerError(f"run {run_id}: {self.who} was lost{tried}: {self.reason}{back}")
        return TrainingError(f"run {run_id}: {self.who} failed{tried}: {self.reason}{back}")


def way_back(run_id: str, step: int | None) -> str:
    """What an error ends with whose run can be gone on with from that step; nothing without one."""
    return f"; `raymlops train --resume {run_id}` goes on from step {step}" if step else ""


def cause_of(failures: Mapping[int, str]) -> Failure:
    """The cause among what each failed worker left behind, by rank.

    When one dies the others raise that they lost it: what they raise is not the cause, unless
    nothing else is known.
    """
    chains = {rank: read_traceback(text) for rank, text in failures.items()}
    told = {rank: _told(text, chains[rank]) for rank, text in failures.items()}
    dead = {rank for rank in failures if _has(told[rank], _DEATH)}
    kinds = {rank: _kind(told[rank], chains[rank], died=bool(dead)) for rank in failures}
    for wanted in ("memory", "raised", "lost"):
        for rank in sorted(failures, key=lambda rank: (rank not in dead, rank)):
            if kinds[rank] == wanted:
                text, reason = failures[rank], reason_of(failures[rank])
                ours = _OURS.match(reason)
                return Failure(
                    kind=kinds[rank],
                    rank=rank,
                    reason=reason[ours.end() :] if ours else reason,
                    text=text,
                    is_told=ours is not None,
                )
    return Failure(kind="lost", rank=0, reason="no worker said why")


def _told(text: str, chain: tuple[Raised, ...]) -> str:
    """What exceptions say, without the lines of source that a traceback shows."""
    return "\n".join(raised.message for raised in chain) or text


def _kind(told: str, chain: tuple[Raised, ...], *, died: bool) -> Kind:
    if _has(told, _WANT_OF_MEMORY):
        return "memory"
    if _has(told, (*_DEATH, *_LOST_PEER)):
        return "lost"
    if _has(told, _LOST_CONNECTION) and (died or not chain or _is_between_workers(chain[-1])):
        return "lost"
    return "raised"


def _is_between_workers(raised: Raised) -> bool:
    return bool(raised.frames and _BETWEEN_WORKERS.search(raised.frames[-1].file))


def _has(told: str, signs: Iterable[str]) -> bool:
    return any(sign in told for sign in signs)
