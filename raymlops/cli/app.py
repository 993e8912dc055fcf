"""The command line: each verb parses, calls one function and prints, for people or as JSON."""

from __future__ import annotations

import logging
import sys

import typer

from raymlops.cli import configuration, data, demo, lifecycle, machines, models, records, runs
from raymlops.errors import RaymlopsError

app = typer.Typer(
    name="raymlops",
    help="Train, serve, release and watch models on a plain Ray cluster.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

for module in (demo, data, lifecycle, runs, models, records, machines, configuration):
    module.add_to(app)


def main() -> None:
    """Runs the command line; a known error is one line on stderr and exit status 1."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    try:
        app()
    except RaymlopsError as error:
        print(f"raymlops: {error}", file=sys.stderr)
        sys.exit(1)
