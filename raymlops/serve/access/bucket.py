"""A token bucket: how often somebody may ask, with time passed in."""

from __future__ import annotations


class TokenBucket:
    """Fills by `rate_per_s` up to `burst`; each request takes one token.

    b(t) = min(burst, b(t') + rate (t - t')), and a request passes when b(t) >= 1.
    """

    __slots__ = ("_at", "_burst", "_rate_per_s", "_tokens")

    def __init__(self, rate_per_s: float, burst: float, now: float) -> None:
        self._rate_per_s = rate_per_s
        self._burst = burst
        self._tokens = burst
        self._at = now

    def take(self, now: float) -> float:
        """0 when the request may pass, which takes a token; else the seconds until one may."""
        self._tokens = min(self._burst, self._tokens + self._rate_per_s * (now - self._at))
        self._at = now
        if self._tokens >= 1.0:
            self._tokens -= 1.0
            return 0.0
        return (1.0 - self._tokens) / self._rate_per_s
