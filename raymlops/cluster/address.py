"""Addresses of Ray heads: HOST:PORT, an IPv6 host in brackets."""

from __future__ import annotations

import ipaddress
import random
import socket


def split_address(address: str) -> tuple[str, int]:
    """Host and port of HOST:PORT.

    Raises:
        ValueError: The address has another shape.
    """
    host, colon, port = address.rpartition(":")
    if "://" in address or not (colon and host and port.isdecimal() and 0 < int(port) < 65536):
        raise ValueError(f"address is {address!r}, expected 'local', 'auto' or HOST:PORT")
    return host.strip("[]"), int(port)


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach `host`."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def is_this_machine(host: str) -> bool:
    """Whether `host` is an address of this machine."""
    try:
        with socket.create_server((host, 0)):
            return True
    except OSError:
        return False


_SELDOM_TAKEN = range(20_000, 32_768)
"""Between the ports that Ray's workers listen on and those that Linux gives to whoever connects."""
_ATTEMPTS = 16
_RANDOM = random.SystemRandom()  # a seed would give two processes the same ports


def free_port(host: str, *, preferred: int = 0) -> int:
    """`preferred` if nothing listens there, else one that is seldom taken before it is used.

    Whoever starts a server on it checks all the same that it came up.
    """
    others = (*_RANDOM.sample(_SELDOM_TAKEN, _ATTEMPTS), 0)
    for port in (preferred, *others) if preferred else others:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, port))
            except OSError:
                continue
            chosen: int = probe.getsockname()[1]
            return chosen
    raise OSError(f"no free port on {host}")
