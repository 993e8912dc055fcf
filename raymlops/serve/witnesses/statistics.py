"""Counts of a replica's answers by version, as the protocols' statistics tell them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from raymlops.serve.exchange import Exchange


@dataclass(slots=True)
class Tally:
    """Requests that a version answered or failed to, and how long they took in all."""

    num_ok: int = 0
    ok_s: float = 0.0
    num_failed: int = 0
    failed_s: float = 0.0
    num_rows: int = 0
    last: float = 0.0
    """When the last request came, in seconds since 1970."""

    @property
    def last_ms(self) -> int:
        """The same in milliseconds; 0 before the first."""
        return int(self.last * 1000)


class Statistics:
    """`of` each version, from the exchanges that this is told of."""

    def __init__(self) -> None:
        self.of: dict[str, Tally] = {}

    def note(self, exchanges: Sequence[Exchange]) -> None:
        """Counts exchanges; those that came to no version belong to none."""
        for exchange in exchanges:
            if exchange.version is None:
                continue
            version = exchange.version.version
            tally = self.of.get(version)
            if tally is None:
                tally = self.of[version] = Tally()
            tally.last = exchange.at
            if exchange.outputs is None or exchange.status >= 400:
                tally.num_failed += 1
                tally.failed_s += exchange.latency_s
            else:
                tally.num_ok += 1
                tally.ok_s += exchange.latency_s
                tally.num_rows += exchange.num_rows
