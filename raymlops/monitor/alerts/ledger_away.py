"""A ledger that does not answer who watches it, as a signal for alerts."""

from __future__ import annotations

from datetime import datetime, timedelta

from raymlops.config import SecretUrl
from raymlops.monitor.alerts.episodes import Signal
from raymlops.monitor.alerts.signals import LEDGER

# As long as the rule of Prometheus waits: a database that is started anew is back before.
_TOLD_AFTER = timedelta(minutes=1)


class LedgerAway:
    """For how long the ledger at `url` has not answered."""

    def __init__(self, url: str) -> None:
        self._model = f"ledger {SecretUrl(url)}"
        self._since: datetime | None = None

    @property
    def is_away(self) -> bool:
        return self._since is not None

    def answered(self) -> Signal:
        self._since = None
        return Signal(name=LEDGER, model=self._model, firing=False)

    def failed(self, why: str, now: datetime) -> tuple[Signal, ...]:
        """Nothing at first; a clock that is set meanwhile delays nothing."""
        since = self._since = self._since or now
        if abs(now - since) < _TOLD_AFTER:
            return ()
        return (
            Signal(
                name=LEDGER,
                model=self._model,
                firing=True,
                severity="critical",
                summary=f"it has not answered since {since:%H:%M:%S} UTC: {why}",
            ),
        )
