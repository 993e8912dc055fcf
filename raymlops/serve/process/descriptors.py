"""How many connections a process can hold open."""

from __future__ import annotations

import resource

_RESERVED = 256
"""For everything else: files, libraries, Ray's own connections."""


def most_open(wanted: int) -> int:
    """`wanted`, or as many connections as the process has descriptors for."""
    allowed, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if allowed == resource.RLIM_INFINITY:
        return wanted
    return min(wanted, max(allowed - _RESERVED, allowed // 2))
