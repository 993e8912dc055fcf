"""What it means that workers failed: whether trying again can help, and whose fault it was."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

from raymlops.errors import OutOfMemoryError, TrainingError

Kind: TypeAlias = Literal["memory", "raised", "lost"]

# Texts, since what Ray hands on are texts of what was raised in another process.
_WANT_OF_MEMORY = (
    "running low on memory",
    "OutOfMemory",
    "MemoryError",
    "can't allocate memory",
    "not enough memory",
    "out of memory",
)
_DEATH = (
    "ActorDiedError",
    "ActorUnavailableError",
    "WorkerCrashedError",
    "NodeDiedError",
    "HealthCheckFailed",
)
_LOST_PEER = (
    "Connection closed by peer",
    "Connection reset by peer",
    "Broken pipe",
    "Socket closed",
    "gloo/transport",
    "Connection refused",
    "DistNetworkError",
    "Could not start gRPC server",  # TensorFlow's, when another process took its port
    "LostShardError",  # of a server that died with rank 0
)


@dataclass(frozen=True, kw_only=True)
class Failure:
    """Why an attempt ended: a worker was `lost` (killed, or its machine), ran out of `memory`, or
    `raised` an error of its own, which it would raise again."""

    kind: Kind
    rank: int
    reason: str

    @property
    def may_pass(self) -> bool:
        return self.kind == "lost"

    def error(self, run_id: str, restarts: int) -> TrainingError:
        """What to raise when the run ends with it."""
        tried = f" after {restarts} restarts" if restarts else ""
        if self.kind == "memory":
            return OutOfMemoryError(
                f"run {run_id}: worker {self.rank} ran out of memory{tried}: {self.reason}; use a "
                "smaller batch_size, more accumulation, activation_checkpointing, or a plan with "
                "more shards"
            )
        if self.kind == "lost":
            return TrainingError(f"run {run_id}: worker {self.rank} was lost{tried}: {self.reason}")
        return TrainingError(f"run {run_id}: worker {self.rank} failed{tried}: {self.reason}")


def cause_of(failures: Mapping[int, str]) -> Failure:
    """The cause among what each failed worker left behind, by rank.

    When one dies the others raise that they lost it: what they raise is not the cause, unless
    nothing else is known.
    """
    kinds = {rank: _kind(text) for rank, text in failures.items()}
    for wanted in ("memory", "raised", "lost"):
        for rank in sorted(failures):
            if kinds[rank] == wanted:
                return Failure(kind=kinds[rank], rank=rank, reason=_last_line(failures[rank]))
    return Failure(kind="lost", rank=0, reason="no worker said why")


def _kind(text: str) -> Kind:
    if any(sign in text for sign in _WANT_OF_MEMORY):
        return "memory"
    if any(sign in text for sign in (*_DEATH, *_LOST_PEER)):
        return "lost"
    return "raised"


def _last_line(text: str) -> str:
    lines = [line for line in text.strip().splitlines() if line.strip()]
    return lines[-1].strip() if lines else "no reason was given"
