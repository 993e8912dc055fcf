"""API keys: who may ask which models, how often. What is kept is their digests alone."""

from __future__ import annotations

import hashlib
import re
import secrets
from dataclasses import dataclass
from math import inf

_PREFIX = "rml_"
_DIGEST = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, kw_only=True)
class ApiKey:
    """A key as settings keep it; `models` are those it is good for, all when there are none.

    Each replica counts `rate_per_s` for itself; 0 is no limit. A digest need not be salted: a key
    has 256 random bits, which no dictionary holds.
    """

    name: str
    digest: str
    models: tuple[str, ...] = ()
    rate_per_s: float = 0.0
    burst: float = 0.0

    def __post_init__(self) -> None:
        if not self.name:
            raise ValueError("a key has no name")
        if _DIGEST.fullmatch(self.digest) is None:
            raise ValueError(
                f"the digest of key '{self.name}' is {self.digest[:8]!r}..., not 64 hexadecimal "
                "digits; `raymlops keys make` prints one, and the key itself belongs to its user"
            )
        for limit in ("rate_per_s", "burst"):
            value = getattr(self, limit)
            if not 0 <= value < inf:  # NaN is not, and JSON would keep either as null
                raise ValueError(f"key '{self.name}' has {limit} {value}; give 0 for no limit")
        if self.burst and self.burst < 1:
            raise ValueError(f"key '{self.name}' has burst {self.burst}, no request would pass")

    def allows(self, model: str) -> bool:
        return not self.models or model in self.models


def new_key() -> str:
    """A key nobody has, to be shown once."""
    return _PREFIX + secrets.token_urlsafe(32)


def digest_of(key: str) -> str:
    """What is kept of a key."""
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()
