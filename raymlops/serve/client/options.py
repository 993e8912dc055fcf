"""How a client reaches its server."""

from __future__ import annotations

import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from raymlops.serve.client.retrying import RetryPolicy


@dataclass(frozen=True, kw_only=True)
class ClientOptions:
    """`timeout_s` is for a request with all its attempts.

    `ca_file` holds the certificates to trust instead of the system's.
    """

    timeout_s: float = 10.0
    retry: RetryPolicy = field(default_factory=RetryPolicy)
    max_connections: int = 32
    api_key: str | None = field(default=None, repr=False)
    ca_file: Path | None = None

    def __post_init__(self) -> None:
        if self.timeout_s <= 0:
            raise ValueError(f"timeout_s is {self.timeout_s}, it must be positive")
        if self.max_connections < 1:
            raise ValueError(f"max_connections is {self.max_connections}, at least 1 is needed")

    def http(self, url: str) -> Mapping[str, Any]:
        """The arguments of httpx's clients; proxies of the environment have no part, since the
        server is named by the user."""
        headers = {} if self.api_key is None else {"authorization": f"Bearer {self.api_key}"}
        return {
            "base_url": url,
            "headers": headers,
            "trust_env": False,
            "timeout": self.timeout_s,
            "limits": httpx.Limits(
                max_connections=self.max_connections,
                max_keepalive_connections=self.max_connections,
            ),
            "verify": _trust(self.ca_file) if url.startswith("https:") else False,
        }


def in_time(deadline: float) -> None:
    """Raises httpx.ReadTimeout once it is past: httpx bounds the wait for each part of an answer,
    and not that for all of them."""
    if time.monotonic() > deadline:
        raise httpx.ReadTimeout("the answer is not complete in time")


def _trust(ca_file: Path | None) -> ssl.SSLContext:
    """Reads certificates, which takes longer than a request: only for those who need them."""
    return ssl.create_default_context(cafile=ca_file)
