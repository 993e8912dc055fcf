"""The command line `raymlops`."""

from raymlops.cli.app import app, main

__all__ = ["app", "main"]
