"""The command line `raymlops`."""

from __future__ import annotations

import signal
import sys

__all__ = ["main"]


def main() -> None:
    """Runs the command line, as `raymlops.cli.app.main` says.

    Ctrl-C while that is imported ends the process as it ends others, without a traceback.
    """
    interrupt = signal.getsignal(signal.SIGINT)
    if interrupt is signal.default_int_handler:  # a shell has what runs behind it ignore Ctrl-C
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from raymlops.cli import app
    from raymlops.cli.signals import interrupted_once

    try:
        signal.signal(signal.SIGINT, interrupt)
        with interrupted_once():
            app.main()
    except KeyboardInterrupt:  # before Typer had a verb, or after: it catches those within
        sys.exit(130)
