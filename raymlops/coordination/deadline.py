"""The end of a wait that is made of several waits."""

from __future__ import annotations

import time


class Deadline:
    """`timeout_s` from now; None never comes."""

    def __init__(self, timeout_s: float | None) -> None:
        if timeout_s is not None and timeout_s < 0:
            raise ValueError(f"timeout_s is {timeout_s}; it must be 0 or more, or None for ever")
        self.timeout_s = timeout_s
        self._at = None if timeout_s is None else time.monotonic() + timeout_s

    @property
    def left_s(self) -> float | None:
        """Seconds left, never below 0; None when the deadline never comes."""
        return None if self._at is None else max(0.0, self._at - time.monotonic())

    def sooner(self, timeout_s: float) -> float:
        """`timeout_s`, or what is left if that is less."""
        return timeout_s if self.left_s is None else min(timeout_s, self.left_s)
