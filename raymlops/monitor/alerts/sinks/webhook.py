"""A webhook: the alert as JSON, posted to a URL."""

from __future__ import annotations

from dataclasses import dataclass

from raymlops.config import Secret, SecretUrl
from raymlops.monitor.alerts.episodes import Alert
from raymlops.monitor.alerts.sinks.base import document
from raymlops.monitor.alerts.sinks.http import post


@dataclass(frozen=True, kw_only=True)
class Webhook:
    """`token` goes with every alert as `Authorization: Bearer ...`."""

    url: SecretUrl
    token: Secret | None = None

    @property
    def name(self) -> str:
        return "webhook"

    def send(self, alert: Alert) -> None:
        headers = {"idempotency-key": f"{alert.id}-{alert.status}-{alert.severity}"}
        if self.token is not None:
            headers["authorization"] = f"Bearer {self.token.reveal()}"
        post(self.url.reveal(), document(alert), headers=headers)
