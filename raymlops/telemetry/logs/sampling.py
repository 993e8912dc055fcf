"""Which requests are logged: what failed always, what was slow always, of the rest a share.

The share is by a hash of the request id, so that every part of a system that logs by it keeps the
same requests, and the same request is kept or not however often it is asked about.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, Protocol, TypeVar

Reason = Literal["error", "slow", "share"]

_HASHES = 2**32


@dataclass(frozen=True, kw_only=True)
class LogPolicy:
    """What is written of requests.

    Args:
        enabled: whether there is a log at all.
        share: of the requests that are neither errors nor slow, between 0 and 1.
        slow_s: a request that takes this long is always logged.
        inputs: whether the values of a request are logged, too, of its first `max_rows` rows.
        hidden: columns whose values are never logged.
        max_file_mb: a file that has grown so large is put aside; `num_files` of these are kept.
        max_waiting: lines that wait for the disk; what comes beyond is dropped and counted.
    """

    enabled: bool = False
    share: float = 0.01
    slow_s: float = 1.0
    inputs: bool = False
    hidden: tuple[str, ...] = ()
    max_rows: int = 8
    max_file_mb: int = 64
    num_files: int = 4
    max_waiting: int = 10_000

    def __post_init__(self) -> None:
        if not 0 <= self.share <= 1:
            raise ValueError(f"share is {self.share}, not within 0 and 1")
        if not self.slow_s > 0:
            raise ValueError(f"slow_s is {self.slow_s}: every request would be slow")
        for name in ("max_rows", "max_file_mb", "num_files", "max_waiting"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}, at least 1 is needed")
        if self.hidden and not self.inputs:
            raise ValueError(f"hidden is {self.hidden}, but inputs are not logged: leave it out")

    def shows(self, column: str) -> bool:
        """Whether a value of that column may be written."""
        return self.inputs and column not in self.hidden


class Logged(Protocol):
    """A request that ended."""

    @property
    def id(self) -> str: ...

    @property
    def latency_s(self) -> float: ...


L = TypeVar("L", bound=Logged)


def chosen(policy: LogPolicy, status: int, requests: Iterable[L]) -> list[tuple[L, Reason]]:
    """Those of `requests`, which all ended with an HTTP `status`, that are logged, and why."""
    if status >= 400:
        return [(each, "error") for each in requests]
    slow_s, hashes = policy.slow_s, policy.share * _HASHES
    found: list[tuple[L, Reason]] = []
    for each in requests:
        reason: Reason
        if each.latency_s >= slow_s:
            reason = "slow"
        elif zlib.crc32(each.id.encode()) < hashes:
            reason = "share"
        else:
            continue
        found.append((each, reason))
    return found
