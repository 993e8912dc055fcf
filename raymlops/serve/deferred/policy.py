"""How long results are kept, and who may be called back."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import unquote

from raymlops.config import check_durations

# Servers decode a path once, some behind a proxy twice; nobody means more.
_MAX_ENCODINGS = 4


@dataclass(frozen=True, kw_only=True)
class DeferredPolicy:
    """A result is kept for `ttl_s`; one that is not there after `lost_after_s` was lost with its
    replica.

    Only URLs that begin with one of `webhooks` are called back: a server that calls whoever a
    client names reaches what the client cannot.
    """

    ttl_s: float = 3600.0
    lost_after_s: float = 600.0
    max_pending: int = 1024
    webhooks: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_durations(self, "ttl_s", "lost_after_s")
        if self.max_pending < 1:
            raise ValueError(f"max_pending is {self.max_pending}, it must be positive")
        for url in self.webhooks:
            if not url.startswith(("http://", "https://")) or url.count("/") < 3:
                raise ValueError(f"webhook {url!r} is no http(s)://HOST/ to begin with")

    def allows(self, webhook: str) -> bool:
        if _leads_out(webhook):
            return False
        return any(webhook.startswith(prefix) for prefix in self.webhooks)


def _leads_out(url: str) -> bool:
    """Whether `..` may lead out of what the URL begins with, however often it was encoded."""
    for _ in range(_MAX_ENCODINGS):
        decoded = unquote(url)
        if decoded == url:
            return ".." in url
        url = decoded
    return True
