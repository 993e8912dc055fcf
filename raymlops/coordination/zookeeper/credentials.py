"""Keeps out of kazoo's log passwords, since at level DEBUG it prints every request it sends, and
what it warns of at every attempt to connect: a server that was away for a night left 30,000 lines.
"""

from __future__ import annotations

import logging

from kazoo.protocol.serialization import Auth, Connect


class WithoutCredentials(logging.Filter):
    """Drops what shows the user's password, or the one that lets others take over a session."""

    def filter(self, record: logging.LogRecord) -> bool:
        arguments = record.args if isinstance(record.args, tuple) else ()
        return "passwd" not in str(record.msg) and not any(
            isinstance(argument, (Auth, Connect)) for argument in arguments
        )


def warns_not(record: logging.LogRecord) -> bool:
    """What there is to warn of a session tells itself, once."""
    return record.levelno != logging.WARNING


def quiet_logger() -> logging.Logger:
    """The logger for kazoo's clients."""
    logger = logging.getLogger("raymlops.coordination.kazoo")
    if not any(isinstance(each, WithoutCredentials) for each in logger.filters):
        logger.addFilter(WithoutCredentials())
        logger.addFilter(warns_not)
    return logger
