"""Counts of a replica's answers by version, as the protocols' statistics tell them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from raymlops.serve.exchange import Run


@dataclass(slots=True)
class Tally:
    """Requests that a version answered, refused (4xx) or failed to answer, and how long they took
    in all."""

    num_ok: int = 0
    ok_s: float = 0.0
    num_refused: int = 0
    refused_s: float = 0.0
    num_failed: int = 0
    failed_s: float = 0.0
    num_rows: int = 0
    last: float = 0.0
    """When the last request came, in seconds since 1970."""

    @property
    def spent_s(self) -> float:
        return self.ok_s + self.refused_s + self.failed_s

    @property
    def last_ms(self) -> int:
        """The same in milliseconds; 0 before the first."""
        return int(self.last * 1000)


class Statistics:
    """`of` each version, from the exchanges that these are told of.

    `catch_up`, if any, has them told of all that was answered until now.
    """

    def __init__(self, catch_up: Callable[[], None] | None = None) -> None:
        self._catch_up = catch_up
        self._of: dict[str, Tally] = {}

    @property
    def of(self) -> Mapping[str, Tally]:
        if self._catch_up is not None:
            self._catch_up()
        return self._of

    def note(self, runs: Sequence[Run]) -> None:
        """Counts exchanges; those that came to no version belong to none."""
        for version, _, status, kin in runs:
            if version is None:
                continue
            tally = self._of.get(version.version)
            if tally is None:
                tally = self._of[version.version] = Tally()
            tally.last = kin[-1].at
            spent_s = sum([each.latency_s for each in kin])
            if status >= 500:
                tally.num_failed += len(kin)
                tally.failed_s += spent_s
            elif status >= 400:
                tally.num_refused += len(kin)
                tally.refused_s += spent_s
            else:
                tally.num_ok += len(kin)
                tally.ok_s += spent_s
                tally.num_rows += sum([each.num_rows for each in kin])
