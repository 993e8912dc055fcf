"""The environment variables Ray reads, for child processes and for this one."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

# Despite its name Ray reads it on Linux too: at "0" the node's address is 127.0.0.1 and every
# server of the node binds there only. Otherwise Ray binds all interfaces and rewrites 127.0.0.1
# to the machine's outward address, even where it is told --node-ip-address=127.0.0.1.
_BEYOND_LOOPBACK = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"

_DEFAULTS = {
    "RAY_USAGE_STATS_ENABLED": "0",
    # `train.report` waits for the controller's next poll, 2 s by default.
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.1",
}


def ray_variables(*, token_auth: bool, loopback: bool) -> dict[str, str]:
    """What to set for Ray and the workers that inherit from it; the user's defaults stay."""
    return {
        **{name: os.environ.get(name, value) for name, value in _DEFAULTS.items()},
        "RAY_AUTH_MODE": "token" if token_auth else "disabled",
        _BEYOND_LOOPBACK: "0" if loopback else "1",
    }


@contextmanager
def applied(variables: Mapping[str, str]) -> Iterator[None]:
    """Set `variables` in this process, in Ray's own copies too, until the block ends."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    _refresh_ray()
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        _refresh_ray()


def _refresh_ray() -> None:
    """Make Ray read the variables again: it keeps what it read first, at import or first use."""
    import ray

    untyped: Any = ray
    constants, raylet = untyped._private.ray_constants, untyped._raylet
    constants.ENABLE_RAY_CLUSTER = os.environ.get(_BEYOND_LOOPBACK, "1") != "0"
    raylet.Config.initialize("")
    raylet.AuthenticationTokenLoader.instance().reset_cache()
